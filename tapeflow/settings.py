"""Settings of the process, and of a block of code in its own thread."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any

TIERS = ("auto", "interpret", "fused")


@dataclass(frozen=True)
class Settings:
    """What ``tpf.config`` sets.

    threads: how many threads share a batch. block: lanes in a block, a power of two from 8 to
    4096, or None for a width that fits the tape's working set in the cache. debug_nans, debug_infs:
    stop at the first NaN, or infinity, in either sweep, and name the sample, the gate that made it,
    its operands' values and its source line (`NonFiniteError`). tier: "interpret" runs a kernel for
    each instruction, "fused" compiles kernels of many before a tape's first evaluation, "auto" does
    so in the background once that saves time. max_memory: bytes that the values and cotangents of a
    batch in progress may take, or None for no limit: where they would take more, blocks are
    narrower, and the reverse sweep computes values again that it would have kept. None of them
    changes a bit of a result. max_paths: ways through one function, by its branches, that are
    recorded at most.
    """

    threads: int
    block: int | None = None
    debug_nans: bool = False
    debug_infs: bool = False
    tier: str = "auto"
    max_memory: int | None = None
    max_paths: int = 1000
    debugging: bool = field(init=False, default=False)
    """Whether the sweeps go one instruction at a time, and look at every number."""

    def __post_init__(self) -> None:
        if type(self.threads) is not int or self.threads < 1:
            raise ValueError(f"threads must be a whole number from 1 up, not {self.threads!r}")
        if self.block is not None and (
            type(self.block) is not int
            or not 8 <= self.block <= 4096
            or self.block & (self.block - 1)
        ):
            raise ValueError(
                f"block must be a power of two from 8 to 4096, or None, not {self.block!r}"
            )
        for name in ("debug_nans", "debug_infs"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.max_memory is not None and (
            type(self.max_memory) is not int or self.max_memory < 1
        ):
            raise ValueError(
                f"max_memory must be a whole number of bytes, or None, not {self.max_memory!r}"
            )
        if type(self.max_paths) is not int or self.max_paths < 1:
            raise ValueError(f"max_paths must be a whole number from 1 up, not {self.max_paths!r}")
        if self.tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}, not {self.tier!r}")
        object.__setattr__(self, "debugging", self.debug_nans or self.debug_infs)


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_process = Settings(threads=_available_cores())
_overrides: ContextVar[dict[str, Any] | None] = ContextVar("tapeflow_settings", default=None)
_names = {own.name for own in fields(Settings) if own.init}


def current() -> Settings:
    """The settings in force in this thread."""
    overrides = _overrides.get()
    return replace(_process, **overrides) if overrides else _process


@contextmanager
def overridden(**values: Any) -> Iterator[None]:
    """A block of code in whose context some settings are others; for our own use."""
    token = _overrides.set({**(_overrides.get() or {}), **values})
    try:
        yield
    finally:
        _overrides.reset(token)


class config:
    """Set how tapeflow runs: ``tpf.config(threads=2)``, or ``with tpf.config(threads=2): ...``.

    The plain call sets the values for the process. As a context manager they hold for the block
    of code, in its own thread (or asynchronous task) only. Takes ``threads``, ``block``, ``tier``,
    ``max_memory``, ``max_paths``, ``debug_nans`` and ``debug_infs``, described in `Settings`;
    raises TypeError for another name and ValueError for a value out of range.

    >>> import tapeflow as tpf
    >>> with tpf.config(threads=1, block=64):
    ...     tpf.vmap(tpf.grad(lambda x: x * x))(np.array([1.0, 2.0]))
    array([2., 4.])
    """

    def __init__(self, **settings: Any) -> None:
        global _process
        unknown = settings.keys() - _names
        if unknown:
            raise TypeError(
                f"tpf.config has no setting {min(unknown)!r}; it has {', '.join(sorted(_names))}"
            )
        self._settings = settings
        self._before = _process
        self._token: Token[dict[str, Any] | None] | None = None
        _process = replace(_process, **settings)

    def __enter__(self) -> "config":
        global _process
        # The constructor could not know that a `with` would follow: take the process setting back.
        _process = self._before
        self._token = _overrides.set({**(_overrides.get() or {}), **self._settings})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _overrides.reset(self._token)
