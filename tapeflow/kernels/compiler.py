"""From a body to machine code: each kernel made when it is first used, and kept on disk."""

import threading
from collections.abc import Sequence
from typing import Any

from tapeflow.kernels import cache, llvm
from tapeflow.kernels.body import REVERSE, Kernel
from tapeflow.kernels.callbacks import GateKernels, address, guarded
from tapeflow.kernels.grid_kernel import GridKernel
from tapeflow.kernels.write import emit

_lock = threading.RLock()
_compiled: dict[Kernel | GridKernel, int] = {}
_callbacks: list[Any] = []  # in use by compiled code until the process ends


_SECONDS = 0.0015
"""What LLVM takes for an instruction of a body, in one sweep."""


def seconds_to_compile(kernels: Sequence[Kernel]) -> float:
    """An estimate for those that this process and the disk do not have."""
    new = [kernel for kernel in dict.fromkeys(kernels) if kernel not in _compiled]
    sizes = [len(k.body) for k in new if k.python is None and not cache.has(_name(k))]
    return _SECONDS * sum(sizes)


def addresses(kernels: Sequence[Kernel | GridKernel]) -> list[int]:
    """The address of each kernel, from this process, the cache on disk, or the compiler."""
    with _lock:
        missing = [kernel for kernel in dict.fromkeys(kernels) if kernel not in _compiled]
        objects = {}
        for kernel in missing:
            if isinstance(kernel, Kernel) and kernel.python is not None:
                _compiled[kernel] = _callback(kernel)
                if kernel.threaded:
                    code = llvm.compile_module(emit(kernel, _compiled[kernel]))
                    (_compiled[kernel],) = llvm.load([(code, kernel.symbol)])
            else:
                objects[kernel] = _object(kernel)
        if objects:
            # One engine a kernel: gates of users may share a symbol.
            loaded = llvm.load([(code, kernel.symbol) for kernel, code in objects.items()])
            _compiled.update(zip(objects, loaded, strict=True))
        return [_compiled[kernel] for kernel in kernels]


def _name(kernel: Kernel | GridKernel) -> str:
    """What a kernel's code is called on disk."""
    if kernel.has_gate:
        # A user's rule is known by what it emits, not by where it came from.
        return cache.key(llvm.fingerprint(), _text(kernel))
    return cache.key(llvm.fingerprint(), cache.library_digest(), kernel.symbol)


def _object(kernel: Kernel | GridKernel) -> bytes:
    name = _name(kernel)
    code = cache.read(name)
    if code is None:
        code = llvm.compile_module(_text(kernel))
        cache.write(name, code)
    return code


def _text(kernel: Kernel | GridKernel) -> str:
    return emit(kernel) if isinstance(kernel, Kernel) else kernel.emit()


def _callback(kernel: Kernel) -> int:
    gate = GateKernels(
        kernel.python, kernel.lanes, kernel.shared, kernel.active, kernel.fresh, kernel.keep
    )
    function = guarded(gate.reverse if kernel.sweep == REVERSE else gate.forward)
    _callbacks.append(function)
    return address(function)
