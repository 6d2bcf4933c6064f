"""Settled guards: drop those that hold whatever the inputs are."""

from dataclasses import replace

import numpy as np

from tapeflow.tape import Tape


def drop_settled_guards(tape: Tape) -> Tape:
    """The same tape without guards on constants, and with one guard a slot."""
    guards = tape.guards
    if not len(guards):
        return tape
    first = np.zeros(len(guards), np.bool_)
    first[np.unique(guards.slots, return_index=True)[1]] = True
    constants = guards.slots - tape.n_inputs
    fixed = np.flatnonzero((constants >= 0) & (constants < len(tape.constants)))
    first[fixed[tape.constants[constants[fixed]] == guards.expected[fixed]]] = False
    return tape if first.all() else replace(tape, guards=guards[first])
