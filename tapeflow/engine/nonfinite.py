"""NaN and infinity: whether a number is one to stop at, and the error that says what made it.

``tpf.config(debug_nans=True, debug_infs=True)`` says which to stop at.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow import reference, settings
from tapeflow.errors import NonFiniteError
from tapeflow.structure import Floats
from tapeflow.tape import Tape
from tapeflow.transforms import PULLBACK

Flags = npt.NDArray[np.bool_]


def check_results(name: str, what: str, arrays: Sequence[Any], how: str, sampled: bool) -> None:
    """NonFiniteError for a bad number in what the sweeps have left of finite ones.

    arrays: results of shape (rows, size). how: what was done to them since. sampled: whether the
    rows are samples of a batch.
    """
    for array in arrays:
        bad = is_bad(array)
        if bad.any():
            row = int(bad.any(axis=1).argmax())
            number = float(array[row, bad[row].argmax()])
            sample = row if sampled else None
            raise NonFiniteError(
                f"{called(number)} in a {what} of {name}",
                f"the sweeps have left finite numbers, and {how} overflows",
                sweep="forward" if what == "value" else "reverse",
                sample=sample,
            )


def find(tape: Tape, inputs: Floats, seeds: Floats, sample: int | None = None) -> None:
    """Run a tape on one sample by the oracle, both ways; NonFiniteError at the first bad number.

    inputs: shape (n_inputs, 1); seeds: (n_outputs, 1). On a pullback's tape this is done by the
    instructions that the user has written.
    """
    values = reference.start(tape, inputs)
    for i in reference.forward_steps(tape, values):
        found = first_bad(values[tape.slots[i] : tape.slots[i + 1]])
        if found is not None:
            number = float(values[int(tape.slots[i]) + found[0], 0])
            operands = [run[:, 0] for run in runs_of(tape, i, values)]
            raise made_by(tape, i, "forward", sample, operands, found[0], number)
    check_seeds(tape, seeds[:, 0])
    cotangents = reference.seeded(tape, seeds)
    for i, changed in reference.reverse_steps(tape, values, cotangents):
        for operand, places in changed:
            found = first_bad(cotangents[places])
            if found is not None:
                flowing = cotangents[tape.slots[i] : tape.slots[i + 1], 0]
                number = float(cotangents[places[found[0]], 0])
                own = [run[:, 0] for run in runs_of(tape, i, values)]
                flow = flowing, operand
                raise made_by(tape, i, "reverse", sample, own, found[0], number, flow)


def look_inside(tape: Tape, i: int, operands: Sequence[Floats], first_lane: int | None) -> None:
    """NonFiniteError for a bad number inside a loop or a branch, an instruction of a tape.

    operands: of shape (size, lanes), or (size, 1) for what all lanes share. The oracle runs its
    tapes; where a lane has a bad number, the first such lane once more, alone.
    """
    op, parameters = tape.op(i), tape.parameters_of(i).tolist()
    assert op.array is not None
    lanes = max((run.shape[1] for run in operands), default=1)
    wide = [np.broadcast_to(run, (len(run), lanes)) for run in operands]
    for lane in [None] if lanes == 1 else [None, *range(lanes)]:
        own = wide if lane is None else [run[:, lane : lane + 1] for run in wide]
        steps: dict[Tape, int] = {}
        sample = None if first_lane is None else first_lane + (lane or 0)
        before = reference.watcher.set(partial(_look, sample, steps))
        try:
            op.array.forward(parameters, *own)
        except NonFiniteError as error:
            if lane is None and lanes > 1:
                continue
            error.told += f", in {_step(op.array, parameters, steps)}{op.name} ({tape.source(i)})"
            raise
        finally:
            reference.watcher.reset(before)
        if lane is None:
            return


def _step(array: Any, parameters: Sequence[int], steps: dict[Tape, int]) -> str:
    """Which step of a loop was run last, from how often its bodies were; nothing for a branch."""
    begun = [phase for phase in getattr(array, "phases", ()) if phase.body in steps]
    if not begun:
        return ""
    step = steps[begun[-1].body]
    if begun[-1].reverse and parameters[0] >= 0:
        step = parameters[0] - 1 - step
    return f"step {step} of "


def _look(sample: int | None, steps: dict[Tape, int], tape: Tape, i: int, values: Floats) -> None:
    if i == 0:
        steps[tape] = steps.get(tape, -1) + 1
    found = first_bad(values[tape.slots[i] : tape.slots[i + 1]])
    if found is not None:
        element, lane = found
        number = float(values[int(tape.slots[i]) + element, lane])
        own = [run[:, lane] for run in runs_of(tape, i, values)]
        sweep = "reverse" if tape.name.startswith(PULLBACK) else "forward"
        raise made_by(tape, i, sweep, sample, own, element, number)


def runs_of(tape: Tape, i: int, values: Floats) -> list[Floats]:
    """The rows of each operand of an instruction."""
    sizes, _ = tape.runs_of(i)
    slots = tape.operands_of(i).tolist()
    return [values[slot : slot + size] for slot, size in zip(slots, sizes, strict=True)]


def is_bad(numbers: npt.NDArray[np.floating[Any]]) -> Flags:
    current = settings.current()
    bad: Flags = np.zeros(numbers.shape, np.bool_)
    if current.debug_nans:
        bad |= np.isnan(numbers)
    if current.debug_infs:
        bad |= np.isinf(numbers)
    return bad


def first_bad(rows: Floats) -> tuple[int, int] | None:
    """The row and lane of a bad number among rows of lanes: in the first lane that has one."""
    bad = is_bad(rows)
    if not bad.any():
        return None
    lane = int(bad.any(axis=0).argmax())
    return int(bad[:, lane].argmax()), lane


def check_seeds(tape: Tape, seeds: Floats) -> None:
    bad = is_bad(seeds)
    if bad.any():
        number = float(seeds[bad.argmax()])
        raise NonFiniteError(f"{called(number)} in the seed of {tape.name}", sweep="reverse")


def made_by(
    tape: Tape,
    i: int,
    sweep: str,
    sample: int | None,
    operands: Sequence[Floats],
    element: int,
    number: float,
    flow: tuple[Floats, int] | None = None,
) -> NonFiniteError:
    """The error for a bad number: which instruction made it, of what.

    element: which number of the result (in reverse, of the operand's cotangent) it is. flow: in
    reverse, the cotangent of the result, and the operand whose cotangent the number is in.
    """
    op, sizes = tape.op(i), tape.runs_of(i)[0]
    slots = tape.operands_of(i).tolist()
    own: dict[str, Any] = {}
    if op.array is None:
        # Of arrays, the numbers that it is made of alone.
        places = reference.places_of(tape, i)
        if flow is not None:
            element = int((places[flow[1]] == slots[flow[1]] + element).argmax())
        for slot, run, at in zip(slots, operands, places, strict=True):
            own[tape.slot_name(int(at[element]))] = float(run[at[element] - slot])
    else:
        for slot, run, size in zip(slots, operands, sizes, strict=True):
            own[tape.slot_name(slot, size)] = float(run[0]) if size == 1 else run.copy()
    told = ", ".join(f"{name} = {_shown(value)}" for name, value in own.items())
    if flow is not None:
        flowing, operand = flow
        slot, own_flow = slots[operand] + element, flowing
        if op.array is None:
            slot, own_flow = int(places[operand][element]), flowing[element]
        name = tape.slot_name(slot)
        told += f"; gradient {_shown(own_flow)} flows in, and that of {name} becomes {number!r}"
    name = tape.name.removeprefix(PULLBACK)
    location = tape.source(i)
    return NonFiniteError(
        f"{called(number)} in the {sweep} sweep of {name} at v{i}, gate {op.name} ({location})",
        told,
        sweep=sweep,
        sample=sample,
        instruction=i,
        gate=op.name,
        location=location,
        operands=own,
    )


def _shown(value: Any) -> str:
    if np.ndim(value) == 0:
        return repr(float(value))
    if len(value) == 1:
        return repr(float(value[0]))
    return np.array2string(value, threshold=6, edgeitems=2, separator=", ")


def called(number: float) -> str:
    if np.isnan(number):
        return "NaN"
    return "infinity" if number > 0.0 else "minus infinity"


def follows_the_seed(tape: Tape, instruction: int) -> bool:
    """Whether an instruction of a pullback's tape depends on the seed, its last input."""
    flows = np.zeros(tape.n_slots, np.bool_)
    flows[tape.input_structure.bounds[-1][0] : tape.n_inputs] = True
    for i in range(instruction + 1):
        sizes, _ = tape.runs_of(i)
        runs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
        reached = any(flows[slot : slot + size].any() for slot, size in runs)
        flows[tape.slots[i] : tape.slots[i + 1]] = reached
    return bool(flows[tape.slots[instruction]])
