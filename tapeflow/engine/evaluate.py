"""What a tape's methods do: one sample at a time, and the lecture's forward and backward."""

import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from tapeflow.engine.outcomes import check_guards, results_where_guards_hold
from tapeflow.engine.programs import sample_program
from tapeflow.errors import StructureError
from tapeflow.structure import Floats, Leaf, flatten, is_number, leaf_of
from tapeflow.tape import Tape

if TYPE_CHECKING:
    from tapeflow.engine.sample import Workspace


def checked_leaves(tape: Tape, args: tuple[Any, ...]) -> list[Any]:
    """The arguments' leaves; StructureError where they are not what the tape was recorded for."""
    leaves, treedef = flatten(args)
    structure = tape.input_structure
    if treedef != structure.treedef:
        raise StructureError(
            f"{named(tape)} was recorded for arguments of structure {_show(structure.treedef)}, "
            f"not {_show(treedef)}: record it again for these"
        )
    for k, (leaf, expected) in enumerate(zip(leaves, structure.leaves, strict=True)):
        if is_number(leaf) and expected.shape is None:
            continue
        found = leaf_of(leaf)
        if found != expected:
            name = tape.input_names[k]
            raise StructureError(
                f"{named(tape)} was recorded for {name} {_kind(expected)}, not {_kind(found)}: "
                "record it again for these"
            )
    return leaves


def named(tape: Tape) -> str:
    """A tape's name, with the first line that it was recorded from."""
    return f"{tape.name} ({tape.sources[0]})" if tape.sources else tape.name


def _show(treedef: Any) -> str:
    return str(treedef).removeprefix("PyTreeSpec(").removesuffix(")")


def _kind(leaf: Leaf) -> str:
    return "a number" if leaf.shape is None else f"an array of shape {leaf.shape}"


_kept = threading.local()


def call(tape: Tape, *args: Any) -> Any:
    results = results_where_guards_hold(tape, None, checked_leaves(tape, args))
    structure = tape.output_structure
    return structure.unflatten(structure.split(results))


def value_and_grad(tape: Tape, *args: Any) -> tuple[Any, Any]:
    leaves = checked_leaves(tape, args)
    if len(tape.outputs) != 1:
        raise StructureError(
            f"{named(tape)} gives {len(tape.outputs)} numbers, and a gradient is of one: "
            "use forward and backward with a seed"
        )
    results = results_where_guards_hold(tape, slice(0, tape.n_inputs), leaves)
    structure = tape.output_structure
    value = structure.unflatten(structure.split(results[:1]))
    return value, _gradients(tape, results[1:])


def forward(tape: Tape, *args: Any) -> Any:
    workspace = _run_forward(tape, args)
    _states()[tape] = workspace, False
    structure = tape.output_structure
    return structure.unflatten(structure.split(workspace.outputs.copy()))


def _run_forward(tape: Tape, args: tuple[Any, ...]) -> Any:
    """A workspace with every value at these arguments."""
    leaves = checked_leaves(tape, args)
    program = sample_program(tape, slice(0, tape.n_inputs))
    workspace = program.new_workspace()
    tape.input_structure.pack(leaves, workspace.inputs)
    try:
        program.run_forward(workspace)
    except Exception:
        check_guards(tape, leaves)
        raise
    if (workspace.values[tape.guards.slots] != tape.guards.expected).any():
        check_guards(tape, leaves)
    return workspace


def backward(tape: Tape, seed: Any = 1.0) -> Any:
    if tape not in _states():
        raise RuntimeError(f"call forward of {tape.name} before backward: it keeps the values")
    workspace, _ = _states()[tape]
    _write_seed(tape, seed, workspace)
    sample_program(tape, slice(0, tape.n_inputs)).run_reverse(workspace)
    _states()[tape] = workspace, True
    return _gradients(tape, workspace.gradients.copy())


def njit(tape: Tape) -> Any:
    from tapeflow.engine.native import NativeTape

    if "njit" not in tape.prepared:
        tape.prepared["njit"] = NativeTape(tape)
    return tape.prepared["njit"]


class Sweeps(NamedTuple):
    """A value and a cotangent for each slot, and the seeds; None where there was no sweep."""

    values: Floats | None
    cotangents: Floats | None
    seeds: Floats | None


def last_sweeps(tape: Tape) -> Sweeps:
    """This thread's last `forward` and `backward` of a tape."""
    workspace, swept = _states().get(tape, (None, False))
    if workspace is None:
        return Sweeps(None, None, None)
    if not swept:
        return Sweeps(workspace.values, None, None)
    return Sweeps(workspace.values, workspace.cotangents + 0.0, workspace.seeds)


def leaves_at(tape: Tape, at: Any) -> list[Any]:
    """The leaves of a tuple of arguments; TypeError for what is none."""
    if not isinstance(at, tuple):
        raise TypeError(
            f"at= takes the arguments of {tape.name} in a tuple, not a {type(at).__name__}: "
            "at=(x,) for one"
        )
    return checked_leaves(tape, at)


def sweeps_at(tape: Tape, args: tuple[Any, ...]) -> Sweeps:
    """Both sweeps at these arguments, every seed 1; what the last `forward` has left stays.

    Raises TypeError where they are not in a tuple, and StructureError for others than recorded.
    """
    leaves_at(tape, args)
    workspace = _run_forward(tape, args)
    workspace.seeds[:] = 1.0
    sample_program(tape, slice(0, tape.n_inputs)).run_reverse(workspace)
    return Sweeps(workspace.values, workspace.cotangents + 0.0, workspace.seeds)


def _states() -> Any:
    """This thread's last forward of each tape: its workspace, and whether backward has run."""
    if not hasattr(_kept, "states"):
        _kept.states = weakref.WeakKeyDictionary()
    return _kept.states


def _write_seed(tape: Tape, seed: Any, workspace: "Workspace") -> None:
    structure = tape.output_structure
    if len(tape.outputs) == 1 and is_number(seed):
        workspace.seeds[0] = seed
        return
    leaves, treedef = flatten(seed)
    if treedef != structure.treedef or tuple(map(leaf_of, leaves)) != structure.leaves:
        raise StructureError(
            f"{named(tape)} gives {len(tape.outputs)} numbers, as {_show(structure.treedef)}: "
            "pass a seed of the same structure and shapes"
        )
    structure.pack(leaves, workspace.seeds)


def _gradients(tape: Tape, flat: Any) -> Any:
    """Gradients in the structure of the arguments; of a lone argument, without the tuple."""
    structure = tape.input_structure
    gradients = structure.unflatten(structure.split(flat))
    return gradients[0] if len(gradients) == 1 else gradients
