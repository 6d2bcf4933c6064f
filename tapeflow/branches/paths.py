"""The paths of a function: a tree of tapes by what its branches were decided as.

A path is the tape of one sequence of outcomes. Paths that have had the same outcomes so far have
the same instructions so far, which is checked when one is added: what was asked of one path at a
guard, and computed on the way there, holds for all that come by.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from tapeflow import settings
from tapeflow.arrays import GateRule, SubTapes
from tapeflow.engine.outcomes import first_failure, flagged, may_raise
from tapeflow.engine.programs import sample_program
from tapeflow.errors import TracingError
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.passes import simplified
from tapeflow.passes.status import without_guards
from tapeflow.sources import quoted
from tapeflow.structure import Floats
from tapeflow.tape import Location, Tape

Outcomes = tuple[float, ...]


class Path:
    """One way through a function.

    raw: the tape as it was recorded, with all guards. tape: simplified. nodes: where it is in the
    tree before each guard, and after the last. runs: how many samples have come this way.
    """

    def __init__(self, raw: Tape) -> None:
        self.raw, self.tape = raw, simplified(raw)
        self.outcomes: Outcomes = tuple(raw.guards.expected.tolist())
        self.nodes: list[Node] = []
        self.runs = 0
        self.prepared: dict[Any, Any] = {}

    def count(self, n: int) -> None:
        """Say that n samples of a batch have come this way."""
        self.runs += n
        for node in self.nodes:
            node.samples += n

    @property
    def bare(self) -> Tape:
        """The tape without its guards, for samples of which it is known that they hold."""
        made: Tape | None = self.prepared.get("bare")
        if made is None:
            made = self.prepared["bare"] = without_guards(self.tape)
        return made


class Node:
    """What is known after some outcomes: where each outcome of the next guard leads.

    path: one that comes by. samples: how many have, in batches.
    """

    __slots__ = ("children", "depth", "path", "samples")

    def __init__(self, depth: int, path: Path) -> None:
        self.depth, self.path = depth, path
        self.children: dict[float, Node] = {}
        self.samples = 0

    @property
    def is_leaf(self) -> bool:
        """Whether all guards are decided, and the path is the only one."""
        return self.depth == len(self.path.outcomes)

    def favourite(self) -> Path:
        """The path that most samples of a batch have taken from here."""
        node = self
        while node.children:
            node = max(node.children.values(), key=lambda child: child.samples)
        return node.path


class Tree:
    """The paths of a function for arguments of one structure.

    record: runs the function at some leaves, with its first guards decided as told. captures: it
    closes over values of a recording in progress, and is not kept.
    """

    def __init__(
        self,
        name: str,
        record: Callable[[Sequence[Any], Outcomes], Tape],
        first: Tape,
        captures: bool = False,
    ) -> None:
        self.name, self._record, self.captures = name, record, captures
        self._lock = threading.RLock()
        self.last = Path(first)
        self.paths = [self.last]
        self.root = Node(0, self.last)
        self._insert(self.last)
        self.plain: Tape | None = None if len(first.guards) else self.last.tape

    def _insert(self, path: Path) -> None:
        nodes = [self.root]
        for outcome in path.outcomes:
            child = nodes[-1].children.get(outcome)
            if child is None:
                break
            nodes.append(child)
        beside = len(nodes)
        nodes += [Node(depth, path) for depth in range(beside, len(path.outcomes) + 1)]
        path.nodes = nodes
        # The new ones last to first, as others walk the tree meanwhile.
        for depth in reversed(range(beside, len(nodes))):
            nodes[depth - 1].children[path.outcomes[depth - 1]] = nodes[depth]

    def follow(self, outcomes: Outcomes) -> Node | None:
        """Where some outcomes lead; None if nothing was recorded there."""
        node: Node | None = self.root
        for outcome in outcomes:
            node = None if node is None else node.children.get(outcome)
        return node

    def add(self, leaves: Sequence[Any], outcomes: Outcomes) -> Node:
        """The node that some outcomes lead to, recorded at these leaves if it is new.

        Raises TracingError where there are too many paths, or where the function does not come
        again to the guards it has come to with the same outcomes before.
        """
        with self._lock:
            node = self.follow(outcomes)
            if node is None:
                if len(self.paths) >= settings.current().max_paths:
                    self._refuse_more()
                beside = self.follow(outcomes[:-1])
                assert beside is not None
                raw = self._record(leaves, outcomes)
                _check_prefix(self.name, beside.path.raw, raw, outcomes)
                path = Path(raw)
                self.paths.append(path)
                self._insert(path)
                node = self.follow(outcomes)
                assert node is not None
            return node

    def settle(self, leaves: Sequence[Any]) -> Path:
        """The path of one sample, recorded if it is new."""
        path, reached = self.last, -1
        while True:
            failure = first_failure(path.tape, leaves)
            number = -1 if failure is None else int(path.tape.guards.numbers[failure[0]])
            # Where two programs differ by rounding, as those of BLAS may, the first has its way.
            if failure is None or number <= reached:
                self.last = path
                return path
            reached = number
            path = self.add(leaves, (*path.outcomes[:number], failure[1])).favourite()

    def results(self, leaves: Sequence[Any], wanted: slice | None) -> tuple[Tape, Floats]:
        """One sample's tape, and what `sample_program` gives for it: outputs and gradients."""
        path = self.last
        if not (settings.current().debugging or may_raise(path.tape)):
            found = sample_program(flagged(path.tape), wanted).results(leaves)
            place = len(path.tape.outputs)
            if found[place] != 0.0:
                path.runs += 1
                return path.tape, np.delete(found, place)
        path = self.settle(leaves)
        path.runs += 1
        return path.tape, sample_program(path.bare, wanted).results(leaves)

    def _refuse_more(self) -> NoReturn:
        # By line: a loop that is unrolled asks the same one many times.
        ways: dict[Location, int] = {}
        pending = [self.root]
        while pending:
            node = pending.pop()
            pending += node.children.values()
            if len(node.children) > 1:
                tape = node.path.raw
                line = tape.sources[int(tape.guards.locations[node.depth])]
                ways[line] = ways.get(line, 1) + len(node.children) - 1
        worst = sorted(ways.items(), key=lambda item: -item[1])[:5]
        listed = ", ".join(f"{n} ways at {line}{quoted(line)}" for line, n in worst)
        raise TracingError(
            f"{self.name} has taken {len(self.paths)} paths, and max_paths allows no more; it went "
            f"{listed}: use tpf.where or tpf.while_loop there, or set tpf.config(max_paths=...)"
        )


def _check_prefix(name: str, known: Tape, found: Tape, outcomes: Outcomes) -> None:
    """TracingError unless a new tape has the same instructions and guards up to its new outcome."""
    for k in range(len(outcomes)):
        same = k < len(found.guards) and found.guards.expected[k] == outcomes[k]
        if not same or _upto(known, k) != _upto(found, k):
            place = known.sources[int(known.guards.locations[k])]
            raise TracingError(
                f"cannot record another branch of {name} ({place}): run again with the same "
                "outcomes up to there it did something else, so it depends on something besides "
                "its arguments (random numbers, a global, the clock): pass that as an argument"
            )


def _upto(tape: Tape, k: int) -> Any:
    """What a tape does from guard k - 1 to guard k, in terms that do not depend on what follows."""
    guards = tape.guards
    start, end = int(guards.after[k - 1]) if k else 0, int(guards.after[k])
    first, last = int(tape.starts[start]), int(tape.starts[end])
    parameters = tape.parameters[tape.parameter_starts[start] : tape.parameter_starts[end]]
    places, numbers = _common(tape, tape.operands[first:last])
    # Gates are numbered by when they first come up, on a path of their own.
    opcodes = np.minimum(tape.opcodes[start:end], FIRST_GATE)
    gates = [_likeness(tape.op(start + i)) for i in np.flatnonzero(opcodes == FIRST_GATE).tolist()]
    looked_at = _common(tape, guards.slots[k : k + 1])
    where = tape.sources[int(guards.locations[k])]
    return (
        (opcodes.tobytes(), gates),
        (tape.starts[start : end + 1] - first).tobytes(),
        (places.tobytes(), numbers.tobytes()),
        parameters.tobytes(),
        (looked_at[0].tobytes(), looked_at[1].tobytes(), int(guards.kinds[k]), where),
    )


def _likeness(op: Op) -> Any:
    """What is the same of an op each time a function is recorded: some are made at each call."""
    rule = op.array
    if isinstance(rule, GateRule):
        return op.name, rule.of
    return (op.name, len(rule.tapes)) if isinstance(rule, SubTapes) else op


def _common(tape: Tape, slots: Any) -> tuple[Any, Any]:
    """Slots, results counted from below zero, and the numbers of those that are constants."""
    first = int(tape.slots[0])
    constant = (slots >= tape.n_inputs) & (slots < first)
    places = np.where(slots >= first, first - 1 - slots, slots)
    places[constant] = tape.n_inputs
    return places, tape.constants[slots[constant] - tape.n_inputs]
