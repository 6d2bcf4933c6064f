"""Our own threads, which hand the sweeps' work out; kernels run without the GIL."""

import os
import threading
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


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
