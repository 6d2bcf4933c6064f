"""A tape that is linear in its last input, for all unit seeds at once, without their zeros.

The seeds are the identity, so what flows is a matrix for each value, and few of its entries are not
zero. They are kept as *parts*: runs of numbers, each with its row and its column. An elementwise
instruction then works on the parts' numbers, and one that only moves numbers changes rows and
writes nothing. So each entry is computed once, by the operations of the dense sweep: where entries
have many neighbours that are zero, as on a grid, that is less than a sweep for each colour.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.recorder import Recorder
from tapeflow.sparsity.parts import Entries, Part, combined, neighbours, of_numbers, picked, written
from tapeflow.sparsity.places import Places, Table
from tapeflow.structure import Ints
from tapeflow.tape import Tape
from tapeflow.tracers import lift
from tapeflow.transforms.replay import Replay


class NotSpread(Exception):
    """The tape cannot be spread, or not with less work than by colours: it says why."""


class Spread(Replay):
    """The replay of a tape in which what depends on the last input is spread.

    inputs: the slots of the first inputs in the recording; those between are 1. computed: how many
    numbers the entries take; more than ``limit`` raise NotSpread.
    """

    def __init__(self, tape: Tape, recorder: Recorder, inputs: Ints, limit: int) -> None:
        n_seed = tape.input_structure.leaves[-1].size
        self._seed, self._ones = tape.n_inputs - n_seed, len(inputs)
        self._first = int(tape.slots[0])
        self.computed, self._limit = 0, limit
        self.n_columns, self._table = n_seed, Table(n_seed)
        unit = np.arange(n_seed)
        # By the first slot of the value.
        self._entries = {self._seed: Entries([Part(1.0, self._table.places(unit, unit))])}
        # What is linear in the ones, and of that what is the same for all arguments.
        self._scaled: set[int] = set()
        self._known: dict[int, float] = {}
        rest = np.full(tape.n_inputs - len(inputs), recorder.constant(1.0), np.int64)
        super().__init__(tape, recorder, np.concatenate([inputs, rest]))

    def results(self) -> Entries:
        """The matrix of all outputs, whose numbers are the rows."""
        found: list[Part] = []
        first, stacked = 0, False
        for run in self.runs(self.tape.outputs):
            entries = self._flow(int(run[0]), len(run))
            if entries is not None:
                found += self._moved(entries, first + np.arange(len(run))).parts
                stacked = stacked or entries.stacked
            first += len(run)
        return Entries(found, stacked)

    def write(self, i: int) -> None:
        tape = self.tape
        sizes, size = tape.runs_of(i)
        slots = tape.operands_of(i).tolist()
        flows = [self._flow(slot, n) for slot, n in zip(slots, sizes, strict=True)]
        if any(flow is not None for flow in flows):
            if size:
                self._entries[int(tape.slots[i])] = self._linear(i, flows)
            return
        super().write(i)
        runs = zip(slots, sizes, strict=True)
        if size and any(n and self._is_scaled(slot) for slot, n in runs):
            self._scaled.add(int(tape.slots[i]))
            self._simplify(i, slots, sizes, size)

    # What does not flow.

    def _number(self, slot: int, size: int) -> float | None:
        """The one number that all of a run are, if that is known."""
        if slot < self.tape.n_inputs:
            return 1.0 if slot >= self._ones else None
        if slot < self._first:
            first = slot - self.tape.n_inputs
            own = self.tape.constants[first : first + size]
            # Bit by bit: zeros of two signs are two numbers.
            same = (own.view(np.int64) == own[:1].view(np.int64)).all()
            return float(own[0]) if same else None
        return self._known.get(self._owner(slot))

    def _is_scaled(self, slot: int) -> bool:
        if slot < self._first:
            return self._ones <= slot < self.tape.n_inputs
        return self._owner(slot) in self._scaled

    def _owner(self, slot: int) -> int:
        slots = self.tape.slots
        return int(slots[np.searchsorted(slots, slot, "right") - 1])

    def _simplify(self, i: int, slots: Sequence[int], sizes: Sequence[int], size: int) -> None:
        """Fold what a seed of ones makes of numbers and arguments; a zero's sign does not matter.

        What flows in a gradient is multiplied and added up, and never divided by.
        """
        tape, op = self.tape, self.tape.op(i)
        numbers = [
            self._number(slot, n) if n else None for slot, n in zip(slots, sizes, strict=True)
        ]
        own = int(tape.slots[i])
        if op.name == "view":
            if numbers[0] is not None:
                self._known[own] = numbers[0]
        elif op.array is None and not op.host and op.python is None:
            if all(number is not None for number in numbers):
                self._known[own] = float(of_numbers(op, numbers))
            elif op.name in _FOLDED and any(number is not None for number in numbers):
                runs = zip(slots, sizes, numbers, strict=True)
                given = [
                    self.value(slot, (n,)) if number is None else number for slot, n, number in runs
                ]
                made = combined(op.name, given)
                if isinstance(made, float):
                    self._known[own] = made
                elif made.size == size:
                    self.moved[own : own + size] = made.run_in(self.recorder) + np.arange(size)

    def _numbers_at(self, slot: int, size: int, places: Ints) -> Any:
        """A run's numbers at some places."""
        number = self._number(slot, size)
        return picked(lift(self.value(slot, (size,))), places) if number is None else number

    # What flows.

    def _flow(self, slot: int, size: int) -> Entries | None:
        """The matrix of a run that depends on the seed."""
        if not size or slot < self._seed or self.tape.n_inputs <= slot < self._first:
            return None
        owner = self._seed if slot < self.tape.n_inputs else self._owner(slot)
        entries = self._entries.get(owner)
        if entries is None:
            return None
        whole = self._table.n_columns
        if owner != self._seed:
            whole = int(self.tape.slots[np.searchsorted(self.tape.slots, slot, "right")]) - owner
        if slot == owner and size == whole:
            return entries
        return self._taken(entries, slot - owner + np.arange(size))

    def _linear(self, i: int, flows: Sequence[Entries | None]) -> Entries:
        tape, op = self.tape, self.tape.op(i)
        p = tape.parameters_of(i).tolist()
        if op.array is not None:
            return self._moves(i, p, flows)
        if op.name not in _LINEAR:
            raise self._refused(i)
        sizes, size = tape.runs_of(i)
        slots = tape.operands_of(i).tolist()
        onto = [grid.places(p, k) if n != size else np.arange(size) for k, n in enumerate(sizes)]
        own = [
            flow if flow is None or n == size else self._taken(flow, places)
            for flow, places, n in zip(flows, onto, sizes, strict=True)
        ]

        def others(k: int, places: Places) -> Any:
            return self._numbers_at(slots[k], sizes[k], onto[k][places.rows])

        if op.name == "neg":
            assert own[0] is not None
            return self._each(own[0], lambda part: combined("neg", [part.numbers]))
        if op.name in ("add", "sub"):
            left, right = (Entries([]) if flow is None else flow for flow in own)
            return self._sum(op.name, left, right)
        # A product, and what it is added to.
        k = 0 if own[0] is not None else 1
        flowing = own[k]
        if flowing is None or own[1 - k] is not None:
            raise self._refused(i)
        flowing = self._single(flowing)
        if op.name == "azmul":
            return self._each(
                flowing,
                lambda part: combined("azmul", [part.numbers, others(1 - k, part.places)]),
            )
        total = Entries([]) if own[2] is None else self._single(own[2])
        return self._fused(flowing, lambda places: others(1 - k, places), total)

    def _refused(self, i: int) -> NotSpread:
        return NotSpread(f"'{self.tape.op(i).name}' ({self.tape.source(i)}) mixes them")

    def _part(self, numbers: Any, places: Places) -> Part:
        """Entries that are computed."""
        self.computed += 1 if isinstance(numbers, float) else numbers.size
        if self.computed > self._limit:
            raise NotSpread("there are too many on the way")
        return Part(numbers, places)

    def _each(self, entries: Entries, change: Any) -> Entries:
        parts = [self._part(change(part), part.places) for part in entries.parts]
        return Entries(parts, entries.stacked)

    def _sum(self, name: str, left: Entries, right: Entries) -> Entries:
        """A sum or a difference: same places add up at once, others where they are collected."""
        if left.stacked and right.stacked:
            right = self._single(right)
        turned = right
        if name == "sub":
            turned = self._each(right, lambda part: combined("neg", [part.numbers]))
        if left.stacked or right.stacked:
            first, then = (left, turned) if left.stacked else (turned, left)
            return Entries([*first.parts, *then.parts], True)
        found, stacked = list(left.parts), False
        at = {part.places: k for k, part in enumerate(found)}
        for part, other in zip(right.parts, turned.parts, strict=True):
            k = at.get(part.places)
            if k is not None:
                numbers = combined(name, [found[k].numbers, part.numbers])
                found[k] = self._part(numbers, part.places)
            else:
                meets = (self._table.meet(own.places, part.places) for own in left.parts)
                stacked = any(meets) or stacked
                found.append(other)
        return Entries(found, stacked)

    def _fused(self, flowing: Entries, partial: Any, total: Entries) -> Entries:
        """What `azfma` makes: products, rounded only after they are added to the total."""
        found = list(total.parts)
        for part in flowing.parts:
            met = [own for own in found if self._table.meet(own.places, part.places)]
            if not met:
                product = combined("azmul", [part.numbers, partial(part.places)])
                found.append(self._part(product, part.places))
                continue
            places, given, onto = part.places, part.numbers, met[0].numbers
            if len(met) > 1 or met[0].places is not places:
                keys = np.unique(np.concatenate([places.keys, *(own.places.keys for own in met)]))
                places = self._table.of_keys(keys)
                given, onto = self._on([part], places), self._on(met, places)
            found = [own for own in found if own not in met]
            numbers = combined("azfma", [given, partial(places), onto])
            found.append(self._part(numbers, places))
        return Entries(found)

    def _on(self, parts: Sequence[Part], places: Places) -> Any:
        """Parts that share no entry as numbers at some places, zero where they have none."""
        index = np.full(len(places), -1)
        first = 0
        for part in parts:
            own = part.places.found(places.keys)
            index = np.where(own >= 0, first + own, index)
            first += len(part.places)
        numbers = np.concatenate([*map(written, parts), np.zeros(1)])
        return picked(lift(numbers), np.where(index < 0, first, index))

    def _single(self, entries: Entries) -> Entries:
        """The same with each entry in one part."""
        if not entries.stacked:
            return entries
        keys = np.concatenate([part.places.keys for part in entries.parts])
        own, entry = np.unique(keys, return_inverse=True)
        order = np.argsort(entry, kind="stable")
        starts = np.searchsorted(entry[order], np.arange(len(own) + 1))
        whole = lift(np.concatenate([*map(written, entries.parts), np.zeros(1)]))
        places, total = self._table.of_keys(own), None
        for layer in range(int(np.diff(starts).max())):
            at = starts[:-1] + layer
            index = np.where(at < starts[1:], order[np.minimum(at, len(order) - 1)], len(keys))
            term = picked(whole, index)
            total = term if total is None else combined("add", [total, term])
            self._part(total, places)
        return Entries([Part(total, places)])

    # Instructions that move numbers.

    def _moves(self, i: int, p: Sequence[int], flows: Sequence[Entries | None]) -> Entries:
        op = self.tape.op(i)
        if op.name not in _MOVES:
            raise self._refused(i)
        assert op.array is not None
        reaches = {reach.operand: reach for reach in op.array.reaches(p)}
        found: list[Part] = []
        stacked = False
        for k, flow in enumerate(flows):
            if flow is None:
                continue
            own = reaches[k]
            if op.name in ("view", "take"):
                moved = self._taken(flow, own.takes)
            else:
                moved = self._moved(flow, own.gives)
            found += moved.parts
            stacked = stacked or moved.stacked
        return Entries(found, stacked)

    def _taken(self, entries: Entries, places: Ints) -> Entries:
        """Rows as they are taken: row k is the old row places[k]; -1 for none."""
        found = []
        for part in entries.parts:
            if part.places.whole:
                own = np.flatnonzero((places >= 0) & (places < len(part.places)))
                found.append(self._chosen(part, places[own], own))
                continue
            order, rows = part.places.row_order
            first, last = (np.searchsorted(rows, places, side) for side in ("left", "right"))
            counts = last - first
            own = np.repeat(np.arange(len(places)), counts)
            inside = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
            index = order[np.repeat(first, counts) + inside]
            found.append(self._chosen(part, index, own))
        return Entries([part for part in found if len(part.places)], entries.stacked)

    def _moved(self, entries: Entries, places: Ints) -> Entries:
        """Rows as they are put: the old row k is row places[k]; -1 for none."""
        found = []
        for part in entries.parts:
            rows = places[part.places.rows]
            index = np.flatnonzero(rows >= 0)
            found.append(self._chosen(part, index, rows[index]))
        if not (np.diff(places) > 0).all() and not (np.diff(np.sort(places)) > 0).all():
            # Rows are added up: in which order is the op's matter, if there is an order.
            keys = [part.places.keys for part in found]
            whole = np.concatenate([*keys, np.empty(0, np.int64)])
            if entries.stacked or not (np.diff(np.sort(whole)) > 0).all():
                raise NotSpread("sums of numbers mix them")
        return Entries([part for part in found if len(part.places)], entries.stacked)

    def _chosen(self, part: Part, index: Ints, rows: Any) -> Part:
        """Some entries of a part, in other rows."""
        numbers = part.numbers
        places = self._table.places(rows, part.places.columns[index])
        if isinstance(numbers, float) or neighbours(index):
            return Part(picked(numbers, index), places)
        return self._part(picked(numbers, index), places)


_MOVES = ("view", "unview", "take", "put", "concat", "sum")
_LINEAR = ("add", "sub", "neg", "azmul", "azfma")
_FOLDED = (*_LINEAR, "mul")
