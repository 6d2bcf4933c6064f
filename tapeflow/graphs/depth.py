# mypy: allow-untyped-defs
"""The longest chain of gates, by a compiled walk."""

from tapeflow.jit import compiled


@compiled()
def deepest(starts, operands, slots, levels):
    """The level of each slot: one more than the highest that its instruction reads.

    levels: zeros, one a slot.
    """
    for i in range(len(slots) - 1):
        level = 0
        for k in range(starts[i], starts[i + 1]):
            # An empty run may begin where its own instruction's result does.
            if operands[k] < slots[i] and levels[operands[k]] > level:
                level = levels[operands[k]]
        for slot in range(slots[i], slots[i + 1]):
            levels[slot] = level + 1
