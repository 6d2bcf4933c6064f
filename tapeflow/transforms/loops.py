# mypy: allow-untyped-defs
"""The transforms' walks over the instructions of long tapes, compiled by Numba."""

from tapeflow.jit import compiled

# How a flow reaches an operand, and how many have templates by masks: see templates.py.
NOTHING, PLUS, MINUS, TIMES = range(4)
MASKED = 3


@compiled()
def find_active(starts, operands, first_result, stops, active, masks):
    """Which slots a derivative flows through, and of each instruction which operands, by bits.

    stops: instructions that no derivative passes. active: of the inputs at first, then of all.
    """
    for i in range(len(masks)):
        own = 0
        first = starts[i]
        if not stops[i]:
            for k in range(starts[i + 1] - first):
                if active[operands[first + k]]:
                    own |= 1 << (k if k < MASKED else MASKED - 1)
        masks[i] = own
        active[first_result + i] = own != 0


@compiled()
def pull(
    kinds, starts, operands, first_result, active, seeded, first_seed, codes,
    bounds, t_opcodes, t_starts, t_references, t_constants, flow_bounds, modes, flows, refusing,
    values, totals, opcodes, ends, made, owners,
):  # fmt: skip
    """Write the instructions that pull the seeds back; the number of them, or ~i on refusal of i.

    operands: in the pullback's slots. seeded: the slot of each output. codes: opcodes of add, sub,
    neg, azmul and azfma. totals: each slot's cotangent so far, or -1. values: of one template.
    Written: opcodes, where each one's operands end, operands, and the instruction each is due to.
    """
    add, sub, neg, azmul, azfma = codes[0], codes[1], codes[2], codes[3], codes[4]
    n = len(kinds)
    slot = first_result + n
    m = w = 0
    for k in range(len(seeded)):
        target = seeded[k]
        if not active[target]:
            continue
        if totals[target] < 0:
            totals[target] = first_seed + k
            continue
        opcodes[m] = add
        made[w], made[w + 1] = totals[target], first_seed + k
        w += 2
        ends[m], owners[m] = w, -1
        m += 1
        totals[target] = slot
        slot += 1
    for i in range(n - 1, -1, -1):
        flowing = totals[first_result + i]
        if flowing < 0:
            continue
        kind, first = kinds[i], starts[i]
        if refusing[kind]:
            return ~i
        arity = starts[i + 1] - first
        for k in range(arity):
            values[k] = operands[first + k]
        values[arity], values[arity + 1] = first_result + i, flowing
        place = arity + 2
        for j in range(bounds[kind], bounds[kind + 1]):
            for r in range(t_starts[j], t_starts[j + 1]):
                reference = t_references[r]
                made[w] = values[reference] if reference >= 0 else t_constants[~reference]
                w += 1
            opcodes[m] = t_opcodes[j]
            ends[m], owners[m] = w, i
            m += 1
            values[place] = slot
            place += 1
            slot += 1
        for k in range(arity):
            f = flow_bounds[kind] + k
            mode, target = modes[f], operands[first + k]
            if mode == NOTHING or not active[target]:
                continue
            reference = flows[2 * f]
            source = values[reference] if reference >= 0 else t_constants[~reference]
            total = totals[target]
            if mode == PLUS and total < 0:
                totals[target] = source
                continue
            if mode == TIMES:
                reference = flows[2 * f + 1]
                made[w] = source
                made[w + 1] = values[reference] if reference >= 0 else t_constants[~reference]
                w += 2
                opcodes[m] = azmul
                if total >= 0:
                    opcodes[m] = azfma
                    made[w] = total
                    w += 1
            elif total < 0:
                opcodes[m] = neg
                made[w] = source
                w += 1
            else:
                opcodes[m] = add if mode == PLUS else sub
                made[w], made[w + 1] = total, source
                w += 2
            ends[m], owners[m] = w, i
            m += 1
            totals[target] = slot
            slot += 1
    return m


@compiled()
def push(
    kinds, starts, operands, own_opcodes, moved, first_result, slot, codes,
    bounds, t_opcodes, t_starts, t_references, t_constants, flow_bounds, modes, flows, refusing,
    values, tangents, opcodes, ends, made, owners,
):  # fmt: skip
    """Write the instructions with those that push tangents through them; the number, or ~i.

    operands: in the tape's own slots. moved: where each slot is in the pushforward; of the inputs
    and constants at first. slot: the first free one there. tangents: each slot's tangent there, or
    -1; of the inputs at first. The others as in `pull`.
    """
    add, sub, neg, azmul, azfma = codes[0], codes[1], codes[2], codes[3], codes[4]
    m = w = 0
    for i in range(len(kinds)):
        kind, first = kinds[i], starts[i]
        arity = starts[i + 1] - first
        arrived = False
        for k in range(arity):
            values[k] = moved[operands[first + k]]
            made[w] = values[k]
            w += 1
            mode = modes[flow_bounds[kind] + k]
            arrived = arrived or (tangents[operands[first + k]] >= 0 and mode != NOTHING)
            arrived = arrived or (tangents[operands[first + k]] >= 0 and refusing[kind])
        opcodes[m] = own_opcodes[i]
        ends[m], owners[m] = w, i
        m += 1
        moved[first_result + i] = slot
        slot += 1
        if not arrived:
            continue
        if refusing[kind]:
            return ~i
        values[arity], values[arity + 1] = slot - 1, -1
        place = arity + 2
        for j in range(bounds[kind], bounds[kind + 1]):
            for r in range(t_starts[j], t_starts[j + 1]):
                reference = t_references[r]
                made[w] = values[reference] if reference >= 0 else t_constants[~reference]
                w += 1
            opcodes[m] = t_opcodes[j]
            ends[m], owners[m] = w, i
            m += 1
            values[place] = slot
            place += 1
            slot += 1
        total = -1
        for k in range(arity):
            f = flow_bounds[kind] + k
            mode, tangent = modes[f], tangents[operands[first + k]]
            if mode == NOTHING or tangent < 0:
                continue
            if mode == PLUS and total < 0:
                total = tangent
                continue
            if mode == TIMES:
                reference = flows[2 * f + 1]
                made[w] = tangent
                made[w + 1] = values[reference] if reference >= 0 else t_constants[~reference]
                w += 2
                opcodes[m] = azmul
                if total >= 0:
                    opcodes[m] = azfma
                    made[w] = total
                    w += 1
            elif total < 0:
                opcodes[m] = neg
                made[w] = tangent
                w += 1
            else:
                opcodes[m] = add if mode == PLUS else sub
                made[w], made[w + 1] = total, tangent
                w += 2
            ends[m], owners[m] = w, i
            m += 1
            total = slot
            slot += 1
        tangents[first_result + i] = total
    return m
