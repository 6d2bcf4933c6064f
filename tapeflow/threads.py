"""Our own threads, which hand the sweeps' work out; kernels run without the GIL."""

import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_executor_size = 0


def pool(threads: int) -> ThreadPoolExecutor:
    """Our own threads, made when first needed and grown when more are asked for."""
    global _executor, _executor_size
    with _lock:
        if _executor is None or _executor_size < threads:
            _executor = ThreadPoolExecutor(threads, thread_name_prefix="tapeflow")
            _executor_size = threads
        return _executor


def each(threads: int, n: int, work: Callable[[int], None]) -> None:
    """Do work 0 to n - 1, by this thread and others, in the context of this one.

    Raises what the work raises; nothing of it runs on after that.
    """
    numbers = iter(range(n))
    stopped = False

    def some() -> None:
        for k in numbers:
            if stopped:
                break
            work(k)

    helpers = [
        pool(threads).submit(contextvars.copy_context().run, some)
        for _ in range(min(threads, n) - 1)
    ]
    try:
        # This thread works too, so that work inside work never waits for a full pool.
        some()
    except BaseException:
        stopped = True
        raise
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.exception()
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
