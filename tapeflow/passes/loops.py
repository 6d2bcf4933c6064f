# mypy: allow-untyped-defs
"""The passes' walks over the instructions, compiled by Numba; see the modules of their names."""

import math

from tapeflow.jit import compiled

# For hashes: an odd number with no pattern in its bits, and the bits kept of a product.
_FACTOR = 0x9E3779B97F4A7C15 >> 2 | 1
_BITS = 2**62 - 1


@compiled()
def mark_needed(starts, operands, lengths, slots, needed, kept):
    """From the last instruction to the first: whether any of its slots is needed."""
    for i in range(len(kept) - 1, -1, -1):
        own = False
        for slot in range(slots[i], slots[i + 1]):
            own = own or needed[slot]
        kept[i] = own
        if own:
            for k in range(starts[i], starts[i + 1]):
                for slot in range(operands[k], operands[k] + lengths[k]):
                    needed[slot] = True


@compiled()
def mark_needed_between(starts, operands, lengths, slots, known, needed, kept):
    """As `mark_needed`, but what is known is not computed."""
    for i in range(len(kept) - 1, -1, -1):
        own = False
        for slot in range(slots[i], slots[i + 1]):
            own = own or (needed[slot] and not known[slot])
        kept[i] = own
        if own:
            for k in range(starts[i], starts[i + 1]):
                for slot in range(operands[k], operands[k] + lengths[k]):
                    needed[slot] = True


@compiled()
def find_constants(starts, operands, slots, foldable, fixed, folded):
    """Mark the instructions, and their slots, that depend on constants alone."""
    for i in range(len(foldable)):
        own = foldable[i]
        for k in range(starts[i], starts[i + 1]):
            own = own and fixed[operands[k]]
        folded[i] = own
        if own:
            for slot in range(slots[i], slots[i + 1]):
                fixed[slot] = True


@compiled()
def find_repeated(
    opcodes,
    starts,
    operands,
    slots,
    parameter_starts,
    parameters,
    unique,
    commutes,
    alias,
    kept,
    table,
):
    """Drop each instruction that an earlier one is equal to; ``table`` is -1 throughout."""
    mask = len(table) - 1
    for i in range(len(opcodes)):
        first, last = starts[i], starts[i + 1]
        for k in range(first, last):
            operands[k] = alias[operands[k]]
        if commutes[i] and operands[first] > operands[first + 1]:
            operands[first], operands[first + 1] = operands[first + 1], operands[first]
        if unique[i]:
            continue
        mixed = opcodes[i]
        for k in range(first, last):
            mixed = ((mixed + operands[k] + 1) * _FACTOR) & _BITS
            mixed ^= mixed >> 31
        for k in range(parameter_starts[i], parameter_starts[i + 1]):
            mixed = ((mixed + parameters[k] + 1) * _FACTOR) & _BITS
            mixed ^= mixed >> 31
        place = mixed & mask
        while table[place] >= 0:
            j = table[place]
            n, m = starts[j], parameter_starts[j]
            equal = opcodes[j] == opcodes[i] and starts[j + 1] - n == last - first
            n_parameters = parameter_starts[i + 1] - parameter_starts[i]
            equal = equal and parameter_starts[j + 1] - m == n_parameters
            k = 0
            while equal and k < last - first:
                equal = operands[n + k] == operands[first + k]
                k += 1
            k = 0
            while equal and k < n_parameters:
                equal = parameters[m + k] == parameters[parameter_starts[i] + k]
                k += 1
            if equal:
                break
            place = (place + 1) & mask
        j = table[place]
        if j < 0:
            table[place] = i
            continue
        kept[i] = False
        for k in range(slots[i + 1] - slots[i]):
            alias[slots[i] + k] = slots[j] + k


@compiled()
def find_identities(
    kinds, starts, operands, slots, constants, n_inputs, times, plus, minus, power, negative, alias,
    kept, negated
):  # fmt: skip
    """Let each instruction that changes nothing be what it is applied to.

    kinds: opcodes, of instructions on single numbers, and -1; the five that follow name some.
    negated: for each slot, -1, to be the slot that it is the negative of.
    """
    for i in range(len(kinds)):
        kind = kinds[i]
        if kind == negative:
            left = alias[operands[starts[i]]]
            if negated[left] >= 0:
                alias[slots[i]] = negated[left]
                kept[i] = False
            else:
                negated[slots[i]] = left
            continue
        if kind not in (times, plus, minus, power):
            continue
        left, right = alias[operands[starts[i]]], alias[operands[starts[i] + 1]]
        found = -1
        for turn in range(2):
            if n_inputs <= right < slots[0]:
                number = constants[right - n_inputs]
                if kind in (times, power):
                    neutral = number == 1.0
                else:
                    # Zero with one sign only changes the other.
                    sign = 1.0 if kind == minus else -1.0
                    neutral = number == 0.0 and math.copysign(1.0, number) == sign
                if neutral and found < 0:
                    found = left
            if turn or kind not in (times, plus):
                break
            left, right = right, left
        if found >= 0:
            alias[slots[i]] = found
            kept[i] = False
