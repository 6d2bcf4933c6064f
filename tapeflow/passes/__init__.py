"""Passes: tape to tape, each in a file of its own, none changing a bit of an output."""

from tapeflow.passes.common_subexpressions import share_common_subexpressions
from tapeflow.passes.constant_folding import fold_constants
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.passes.identities import apply_identities
from tapeflow.passes.moves import forward_moves
from tapeflow.passes.results import drop_unused_results
from tapeflow.passes.seams import without_seams
from tapeflow.passes.settled import drop_settled_guards
from tapeflow.tape import Tape

ALL = (
    fold_constants,
    apply_identities,
    forward_moves,
    share_common_subexpressions,
    drop_settled_guards,
    remove_dead_code,
    drop_unused_results,
)
"""In the order in which each leaves the next one more to find."""


def executable(tape: Tape) -> Tape:
    """The tape to run where nothing is differentiated any more: without seams."""
    plain = without_seams(tape)
    return tape if plain is tape else simplified(plain)


def simplified(tape: Tape) -> Tape:
    """The tape after all passes: the same outputs, bit for bit, by fewer instructions."""
    for run in ALL:
        tape = run(tape)
    return tape
