"""When a tape's instructions are worth kernels of their own, and who makes them meanwhile.

The interpreter runs a tape at once; its fused program, in which a kernel runs many instructions,
takes time to compile. Every evaluation says how much the fused program would have saved it; once
that is more than the compiler needs, a thread beside the sweeps makes it. Both give the same bits,
so it is taken into use as soon as it is there, in the middle of a batch too.
"""

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tapeflow import settings
from tapeflow.kernels.body import Kernel
from tapeflow.kernels.compiler import seconds_to_compile

_WORTH_A_LOOK = 0.005
"""Seconds that must be saved before the time to compile is even estimated."""

_stopping = threading.Event()
_threads: set[threading.Thread] = set()


class _Loadable(Protocol):
    @property
    def kernels(self) -> Sequence[Kernel]: ...
    def load(self, stop: Callable[[], bool]) -> bool: ...


P = TypeVar("P", bound=_Loadable)


class TierUp(Generic[P]):
    """A fused program, once it is worth while: ``program`` is None until then.

    plan: makes the program, its kernels not yet loaded. adopt: takes it into use.
    """

    def __init__(self, plan: Callable[[], P], adopt: Callable[[P], None]) -> None:
        self._plan, self._adopt = plan, adopt
        self._saved, self._needed = 0.0, _WORTH_A_LOOK
        self._planned: P | None = None
        self._lock = threading.Lock()
        self._busy = self.done = False

    def saves(self, seconds: float) -> None:
        """Count what an evaluation would have been faster by; begin when that is enough."""
        tier = settings.current().tier
        if self.done or tier == "interpret":
            return
        if tier == "fused":
            self._make(None)
            return
        self._saved += seconds
        if self._saved >= self._needed and not self._busy:
            self._busy = True
            thread = threading.Thread(target=self._work, name="tapeflow-compiler", daemon=True)
            _threads.add(thread)
            thread.start()

    def _work(self) -> None:
        try:
            self._make(self._saved)
        finally:
            self._busy = False
            _threads.discard(threading.current_thread())

    def _make(self, worth: float | None) -> None:
        """Make the program, if it takes no longer than a number of seconds."""
        with self._lock:
            if self.done:
                return
            if self._planned is None:
                self._planned = self._plan()
            self._needed = seconds_to_compile(self._planned.kernels)
            if worth is not None and worth < self._needed:
                return
            if self._planned.load(_stopping.is_set):
                self._adopt(self._planned)
                self._planned, self.done = None, True


def wait() -> None:
    """Return when no program is being made."""
    for thread in list(_threads):
        thread.join()


def _stop() -> None:
    # A thread inside the compiler when Python ends would be torn down there.
    _stopping.set()
    wait()


def _forget_threads() -> None:
    _threads.clear()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
