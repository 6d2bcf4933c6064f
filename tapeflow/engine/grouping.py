# mypy: allow-untyped-defs
"""Groups of many instructions: bodies that repeat, and whole short tapes.

The instructions that a loop in Python has unrolled repeat with other operands. They are found by
the structure of the tape alone: where two neighbours occur together again and again, they become
one, round after round, so that a loop's body grows together whatever its length, and two or four
of its turns after that. In a round only the pairs that come before their neighbours in one fixed
order are joined, most frequent first: so every occurrence of a body is cut in the same places.
(It is the idea of locally consistent parsing: Jez, "Recompression", J. ACM 63, 2016.)
"""

import numpy as np

from tapeflow.engine.groups import Flags, Groups
from tapeflow.jit import INT, compiled, helper, walk
from tapeflow.ops import BY_NAME, FIRST_GATE
from tapeflow.structure import Ints
from tapeflow.tape import Tape

LONGEST = 256
"""Instructions of a group: LLVM's time grows faster than a function's length."""

WHOLE = 400
"""Instructions up to which a tape is one group."""

_CHEAP = [
    BY_NAME[name].opcode
    for name in ("add", "sub", "mul", "neg", "square", "fma", "abs", "sign", "max", "min")
]
"""Ops that are computed again faster than their results are stored and loaded."""

NEAR = 64
"""Instructions back to which an operand counts as part of the same structure."""


def grouped(tape: Tape, instructions: Ints, lane: Flags, active: Flags, read: Flags) -> Groups:
    """Cut instructions into groups. ``read``: the slots that are read by others than these."""
    gates = np.array([gate.python is not None for gate in tape.gates], np.bool_)
    python = np.zeros(len(instructions), np.bool_)
    own = tape.opcodes[instructions].astype(np.int64)
    if gates.any():
        python = (own >= FIRST_GATE) & gates[np.maximum(own - FIRST_GATE, 0)]
    kinds = (lane * 1 + active * 2).astype(np.int64)
    if len(instructions) <= WHOLE and not python.any():
        starts = np.array([0, len(instructions)] if len(instructions) else [0], np.int64)
    else:
        tokens = np.empty(len(instructions), np.int64)
        with np.errstate(over="ignore"):  # they wrap around, as numbers of a hash do
            _tokens(instructions, tape.starts, tape.operands, tape.slots, own, kinds, tokens)
        # What is unlike all else stays alone.
        tokens[python] = -1 - np.flatnonzero(python)
        starts = _split(cut(tokens, LONGEST), python)
        # In reverse they are loaded, where a kernel would have to compute them again.
        slots = tape.slots[instructions]
        read = read.copy()
        read[slots] |= active[slots] & ~np.isin(own, _CHEAP)
    return _described(tape, instructions, starts, read)


def _split(starts: Ints, alone: Flags) -> Ints:
    """The same groups, with a border on both sides of the instructions that are alone."""
    places = np.flatnonzero(alone)
    return np.union1d(starts, np.concatenate([places, places + 1])) if len(places) else starts


def _described(tape: Tape, instructions: Ints, starts: Ints, read: Flags) -> Groups:
    n = len(instructions)
    n_operands = int(tape.arities[instructions].sum())
    position = np.full(tape.n_slots, -1, np.int64)
    position[tape.slots[instructions]] = np.arange(n)
    exported = read[tape.slots[instructions]].copy()
    codes = np.empty(n_operands, np.int64)
    operands = np.empty(n_operands, np.int64)
    operand_starts = np.zeros(len(starts), np.int64)
    mark = np.full(tape.n_slots, -1, np.int64)
    n_found = walk(
        _describe,
        n,
        instructions,
        starts,
        tape.starts,
        tape.operands,
        position,
        exported,
        codes,
        operands,
        operand_starts,
        mark,
    )
    slots = tape.slots[instructions[exported]].astype(np.int64)
    counts = np.concatenate([[0], np.cumsum(exported)])
    return Groups(
        tape,
        instructions,
        starts,
        operands[:n_found].copy(),
        operand_starts,
        slots,
        counts[starts].astype(np.int64),
        codes,
    )


@compiled()
def _tokens(instructions, starts, operands, slots, opcodes, kinds, tokens):
    """What an instruction looks like without its place: its op, and operands of near results."""
    for j in range(len(instructions)):
        i = instructions[j]
        token = opcodes[j]
        for k in range(starts[i], starts[i + 1]):
            distance = slots[i] - operands[k]
            if distance > NEAR or operands[k] < slots[0]:
                distance = 0
            token = token * 1000003 + (distance * 4 + kinds[operands[k]])
        tokens[j] = token ^ (token >> 31)


@compiled()
def _describe(
    instructions,
    starts,
    tape_starts,
    tape_operands,
    position,
    exported,
    codes,
    operands,
    operand_starts,
    mark,
):
    """Each group's operands, the codes of its instructions', and which results others read.

    position: the place of each slot's instruction among these, or -1. mark: room for one number
    a slot. Returns how many operands all groups have.
    """
    n_found, place = 0, 0
    for g in range(len(starts) - 1):
        first = n_found
        for j in range(starts[g], starts[g + 1]):
            i = instructions[j]
            for k in range(tape_starts[i], tape_starts[i + 1]):
                slot = tape_operands[k]
                maker = position[slot]
                if maker >= starts[g]:
                    codes[place] = maker - starts[g]
                else:
                    if maker >= 0:
                        exported[maker] = True
                    if mark[slot] < first:
                        mark[slot] = n_found
                        operands[n_found] = slot
                        n_found += 1
                    codes[place] = ~(mark[slot] - first)
                place += 1
        operand_starts[g + 1] = n_found
    return n_found


def cut(tokens: Ints, longest: int) -> Ints:
    """Where groups begin, and the end, for instructions that look like their tokens.

    longest: the most instructions of a group.
    """
    symbols, n_symbols = _numbered(tokens)
    sizes = np.ones(len(tokens), np.int64)
    while True:
        joined = np.zeros(len(symbols), np.bool_)
        if len(symbols) > 1:
            pairs = symbols[:-1] * n_symbols + symbols[1:]
            _choose(symbols, sizes, _ranks(pairs, sizes), longest, joined)
        if not joined.any():
            break
        # A symbol of the next round is one of this, or a pair of them.
        starts = np.flatnonzero(~joined)
        paired = np.append(joined, False)[starts + 1]
        following = np.minimum(starts + 1, len(symbols) - 1)
        second = np.where(paired, symbols[following] + 1, 0)
        keys = symbols[starts] * (n_symbols + 1) + second
        sizes = sizes[starts] + np.where(paired, sizes[following], 0)
        symbols, n_symbols = _numbered(keys)
    rare = (np.bincount(symbols, minlength=n_symbols)[symbols] < FEW) | (sizes < SHORTEST)
    return _merged(sizes, rare, longest)


def _numbered(keys: Ints) -> tuple[Ints, int]:
    """Equal keys as equal numbers from 0 up, and how many there are."""
    numbers = np.empty(len(keys), np.int64)
    table = np.full(1 << (2 * len(keys) + 1).bit_length(), -1, np.int64)
    with np.errstate(over="ignore"):
        return numbers, int(_number(keys, table, numbers))


@compiled()
def _number(keys, table, numbers):
    mask, n = len(table) - 1, 0
    for j in range(len(keys)):
        place = (np.uint64(keys[j]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
        k = np.int64(place) & mask
        # The table holds where a key was seen first.
        while table[k] >= 0 and keys[table[k]] != keys[j]:
            k = (k + 1) & mask
        if table[k] < 0:
            table[k] = j
            numbers[j] = n
            n += 1
        else:
            numbers[j] = numbers[table[k]]
    return n


def _ranks(pairs: Ints, sizes: Ints) -> Ints:
    """Each pair's place in the order of joining; -1 for a pair that is too rare for its size."""
    numbers, n = _numbered(pairs)
    counts = np.bincount(numbers, minlength=n)
    joint = np.zeros(n, np.int64)
    joint[numbers] = sizes[:-1] + sizes[1:]
    # The most frequent first; the rest by a scrambled number, so that neighbours differ.
    scrambled = (np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    rank = np.empty(n, np.int64)
    rank[np.lexsort((scrambled, -counts))] = np.arange(n)
    rank[counts < np.maximum(FEW, joint // WORTH)] = -1
    return rank[numbers]


def _merged(sizes: Ints, rare: Flags, longest: int) -> Ints:
    """Group boundaries; neighbours that do not repeat are put together, or each taken apart."""
    apart = int(sizes[rare].sum()) > MOST_RARE
    starts, room = [0], 0
    for size, alone in zip(sizes.tolist(), rare.tolist(), strict=True):
        if alone and apart:
            starts += range(starts[-1] + 1, starts[-1] + size + 1)
        elif alone and room >= size:
            starts[-1] += size
            room -= size
        else:
            starts.append(starts[-1] + size)
            room = longest - size if alone else 0
    return np.array(starts, np.int64)


MOST_RARE = 10_000
"""Instructions of a tape that do not repeat, up to which they are compiled in long bodies.

With more, their code would be read from memory once a sweep, which takes longer than to interpret.
"""

FEW = 16
"""Times that a pair must occur to be joined."""

WORTH = 2
"""Instructions of a body, at the most, for each time that it occurs."""

SHORTEST = 8
"""Instructions of a body that repeats: many short ones are more code than one for each op."""

UNROLLED = 64
"""Instructions up to which a body is joined with another of its kind: turns of a loop."""


@compiled()
def _choose(symbols, sizes, rank, longest, joined):
    """Join the pairs that come before both neighbours; runs of one symbol from their start."""
    n = len(rank)
    big = n + 1
    j = 0
    while j < n:
        if symbols[j] == symbols[j + 1]:
            # Within a run every pair is the same: join two and two.
            end = j + 1
            while end < n and symbols[end + 1] == symbols[j]:
                end += 1
            if rank[j] >= 0 and 2 * sizes[j] <= min(longest, UNROLLED):
                k = j
                while k + 1 <= end:
                    joined[k + 1] = True
                    k += 2
            j = end
            continue
        own = rank[j]
        if own >= 0 and sizes[j] + sizes[j + 1] <= longest and not joined[j]:
            before, after = big, big
            if j > 0 and not joined[j]:
                before = _standing(symbols, sizes, rank, longest, j - 1)
            if j + 1 < n:
                after = _standing(symbols, sizes, rank, longest, j + 1)
            if own < before and own < after:
                joined[j + 1] = True
        j += 1


@helper(INT)
def _standing(symbols, sizes, rank, longest, j):
    """The rank of a pair if it may be joined; a number past all otherwise."""
    if rank[j] < 0 or sizes[j] + sizes[j + 1] > longest:
        return len(rank) + 1
    if symbols[j] == symbols[j + 1]:
        return -1
    return rank[j]
