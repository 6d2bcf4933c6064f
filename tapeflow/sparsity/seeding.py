# mypy: allow-untyped-defs
"""The loop of `seeded`, compiled by Numba."""

import numpy as np

from tapeflow.jit import INT, compiled, helper


@compiled()
def write(
    opcodes, starts, operands, outputs, first, n_inputs, seeds, ops, base, places,
    new_opcodes, new_starts, new_operands, sources, new_outputs,
):  # fmt: skip
    """Write a tape's instructions: what depends on no seed, then the rest for each of them.

    first: the first result's slot. places: where each slot's number is in the new tape, whose last
    two constants are a zero and a one, and whose results begin at ``base``. Returns how many
    instructions there are.
    """
    n_seed = seeds.shape[1]
    varies = np.zeros(first + len(opcodes), np.bool_)
    varies[n_inputs - n_seed : n_inputs] = True
    n = 0
    for i in range(len(opcodes)):
        for k in range(starts[i], starts[i + 1]):
            varies[first + i] = varies[first + i] or varies[operands[k]]
        if not varies[first + i]:
            n = _copy(
                i, n, opcodes[i], starts, operands, places, new_opcodes, new_starts, new_operands,
                sources,
            )  # fmt: skip
            places[first + i] = base + n - 1
    zero, one = base - 2, base - 1
    for row in range(len(seeds)):
        for k in range(n_seed):
            places[n_inputs - n_seed + k] = one if seeds[row, k] != 0.0 else zero
        for i in range(len(opcodes)):
            if not varies[first + i]:
                continue
            found = _known(opcodes[i], operands, starts[i], places, ops, zero, one)
            if found < 0:
                n = _copy(
                    i, n, opcodes[i], starts, operands, places, new_opcodes, new_starts,
                    new_operands, sources,
                )  # fmt: skip
                found = base + n - 1
                _simplify(n - 1, new_opcodes, new_starts, new_operands, ops, zero)
            places[first + i] = found
        for k in range(len(outputs)):
            new_outputs[row, k] = places[outputs[k]]
    return n


@helper(INT)
def _copy(
    i, n, opcode, starts, operands, places, new_opcodes, new_starts, new_operands, sources
):  # fmt: skip
    """Write instruction i as number n; how many there are then."""
    new_opcodes[n], sources[n] = opcode, i
    place = new_starts[n]
    for k in range(starts[i], starts[i + 1]):
        new_operands[place] = places[operands[k]]
        place += 1
    new_starts[n + 1] = place
    return n + 1


@helper(INT)
def _known(opcode, operands, start, places, ops, zero, one):
    """Where the result of an instruction is already; -1 if it is to be computed."""
    azmul, azfma, add, sub, neg = ops[0], ops[1], ops[2], ops[3], ops[4]
    a = places[operands[start]]
    if opcode == neg:
        return zero if a == zero else -1
    if opcode != azmul and opcode != azfma and opcode != add and opcode != sub:
        return -1
    b = places[operands[start + 1]]
    if opcode == azmul:
        if a == zero or b == zero:
            return zero
        return b if a == one else (a if b == one else -1)
    if opcode == azfma:
        return places[operands[start + 2]] if a == zero or b == zero else -1
    if b == zero:
        return a
    return b if opcode == add and a == zero else -1


@helper()
def _simplify(n, opcodes, starts, operands, ops, zero):
    """Write a sum with zero, the last instruction, as what is added to it."""
    azmul, azfma, sub, neg = ops[0], ops[1], ops[3], ops[4]
    start = starts[n]
    if opcodes[n] == azfma and operands[start + 2] == zero:
        opcodes[n], starts[n + 1] = azmul, start + 2
    elif opcodes[n] == sub and operands[start] == zero:
        opcodes[n], starts[n + 1] = neg, start + 1
        operands[start] = operands[start + 1]
