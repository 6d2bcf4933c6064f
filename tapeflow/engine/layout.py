# mypy: allow-untyped-defs
"""Where the values and cotangents of groups of instructions lie in rows of lanes.

A group is what one kernel runs. Its operands are the slots that it reads and does not compute,
its exports the instructions whose results others read: flat arrays, with where each group's
begin. The functions here walk over whole tapes: compiled, or for a short tape as plain Python.
"""

from tapeflow.jit import compiled


@compiled()
def propagate(starts, operands, first_result, opaque, lane, active):
    """Mark the results that differ by lane, and those that a gradient flows through.

    ``lane`` and ``active`` hold one flag a slot, set for inputs and constants; ``opaque`` says
    which instructions no gradient passes.
    """
    for i in range(len(opaque)):
        differs, flows = False, False
        for k in range(starts[i], starts[i + 1]):
            differs = differs or lane[operands[k]]
            flows = flows or active[operands[k]]
        lane[first_result + i] = differs
        active[first_result + i] = flows and not opaque[i]


@compiled()
def place_values(
    operand_starts, operands, export_starts, exports, lane, kept, last, reuse, rows, free
):
    """Give each exported slot a row; with ``reuse``, rows that nobody reads again are taken.

    rows: -1, or for a slot that has one already its row. kept: slots whose rows are not given
    up. last: room for each slot's last reader. Returns how many rows there are.
    """
    n_groups = len(operand_starts) - 1
    n_rows, n_free = 0, 0
    for slot in range(len(rows)):
        if rows[slot] >= n_rows:
            n_rows = rows[slot] + 1
    for g in range(n_groups):
        for k in range(operand_starts[g], operand_starts[g + 1]):
            last[operands[k]] = g
    for g in range(n_groups):
        for k in range(export_starts[g], export_starts[g + 1]):
            slot = exports[k]
            if n_free:
                n_free -= 1
                rows[slot] = free[n_free]
            else:
                rows[slot] = n_rows
                n_rows += 1
            if reuse and last[slot] < 0 and not kept[slot]:
                free[n_free] = rows[slot]
                n_free += 1
        if not reuse:
            continue
        # Only now: a kernel may store a result before it has read its last operand.
        for k in range(operand_starts[g], operand_starts[g + 1]):
            slot = operands[k]
            if last[slot] == g and lane[slot] and not kept[slot]:
                last[slot] = n_groups
                free[n_free] = rows[slot]
                n_free += 1
    return n_rows


@compiled()
def place_cotangents(
    operand_starts,
    operands,
    export_starts,
    exports,
    active,
    rows,
    n_rows,
    runs,
    flowing,
    operand_rows,
    fresh,
    free,
):
    """Walk the groups in reverse, as a sweep will, and give each cotangent a row while it lives.

    rows: seeded slots' rows; -2 less its row for a slot that keeps its row to the end, which
    becomes the row itself when something flows to it; -1 elsewhere. Marks the groups that run, the
    exports that have cotangents (their rows in ``flowing``, or -1), and the operands whose
    cotangents have a row, and are fresh: written, not added to. Returns how many rows there are.
    """
    n_free = 0
    for g in range(len(operand_starts) - 2, -1, -1):
        runs[g] = False
        for k in range(export_starts[g], export_starts[g + 1]):
            slot = exports[k]
            flowing[k] = rows[slot]
            if rows[slot] >= 0:
                runs[g] = True
                free[n_free] = rows[slot]
                n_free += 1
                rows[slot] = -1
        for k in range(operand_starts[g], operand_starts[g + 1]):
            slot = operands[k]
            operand_rows[k] = -1
            fresh[k] = False
            if not runs[g] or not active[slot]:
                continue
            if rows[slot] < 0:
                fresh[k] = True
                if rows[slot] < -1:
                    rows[slot] = -2 - rows[slot]
                elif n_free:
                    n_free -= 1
                    rows[slot] = free[n_free]
                else:
                    rows[slot] = n_rows
                    n_rows += 1
            operand_rows[k] = rows[slot]
    return n_rows


@compiled()
def mark_active(starts, operands, active, flows, marks):
    """For each instruction that a gradient flows to, its active operands as bits of a number."""
    for i in range(len(flows)):
        if flows[i]:
            for k in range(starts[i], starts[i + 1]):
                if active[operands[k]]:
                    marks[i] |= 1 << (k - starts[i])
