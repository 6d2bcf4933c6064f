"""LLVM, through llvmlite: text of a module to an object, and an object into this process."""

import threading
from collections.abc import Iterable
from functools import cache

import llvmlite
import llvmlite.binding as llvm

_lock = threading.RLock()
_engines: list[llvm.ExecutionEngine] = []  # their code is in use until the process ends


@cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2,
        jit=True,
    )


@cache
def fingerprint() -> str:
    """What compiled code depends on besides its source: compiler, processor and its features."""
    return "\n".join(
        [
            llvmlite.__version__,
            llvm.get_default_triple(),
            llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
        ]
    )


def compile_module(text: str) -> bytes:
    """Machine code, as an object file, for a module of LLVM IR."""
    with _lock:
        machine = _machine()
        module = llvm.parse_assembly(text)
        module.triple = llvm.get_default_triple()
        module.data_layout = str(machine.target_data)
        module.verify()
        builder = llvm.create_pass_builder(
            machine, llvm.create_pipeline_tuning_options(speed_level=2)
        )
        builder.getModulePassManager().run(module, builder)
        code: bytes = machine.emit_object(module)
        return code


def load(objects: Iterable[tuple[bytes, str]]) -> list[int]:
    """Link objects into this process for good, and give the address of each one's function."""
    addresses = []
    with _lock:
        for data, name in objects:
            engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
            engine.add_object_file(llvm.ObjectFileRef.from_data(data))
            engine.finalize_object()
            _engines.append(engine)
            address = engine.get_function_address(name)
            if not address:
                raise RuntimeError(f"compiled code lacks {name}")
            addresses.append(address)
    return addresses
