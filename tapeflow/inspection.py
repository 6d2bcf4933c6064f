"""What a function that branches can be asked: its paths, and how near to a branch it is."""

from typing import Any

from tapeflow.branches.margins import margin_tape
from tapeflow.branches.path_report import Paths, paths_of
from tapeflow.engine.programs import sample_program
from tapeflow.recorded import Recorded, flatten_args


class WithPaths:
    """The methods of what records a function."""

    recorded: Recorded

    def paths(self) -> Paths:
        """The paths recorded so far: how often each was taken, and the line of each branch.

        Printed it is a table; its rows have ``runs``, ``instructions`` and ``branches``, each with
        a ``question``, an ``outcome`` and a ``source``.

        >>> f = tpf.function(lambda x: x * x if x > 0.0 else -x)
        >>> f(2.0), f(-1.0), f(3.0)
        (4.0, 1.0, 9.0)
        >>> for row in f.paths():
        ...     print(row.runs, [(b.question, b.outcome) for b in row.branches])
        2 [('x > 0', 'True')]
        1 [('x > 0', 'False')]
        """
        return paths_of(self.recorded.name, self.recorded.paths())

    def guard_margins(self, *args: Any) -> Any:
        """The smallest distance at some arguments to where a branch would go the other way.

        Of a comparison it is the distance of its two sides, of the truth of a number its magnitude,
        of ``int(x)`` the distance to the next number that gives another, and of ``tpf.concrete(x)``
        zero. Infinity where there are no branches. For a vmapped function, one for each sample.

        >>> f = tpf.function(lambda x: x * x if x > 1.0 else -x)
        >>> f.guard_margins(1.25), tpf.vmap(f).guard_margins(np.array([0.0, 3.0]))
        (0.25, array([1., 2.]))
        """
        leaves, treedef, _ = flatten_args(args)
        tape = margin_tape(self.recorded.tape(leaves, treedef))
        return sample_program(tape, None).results(leaves).item()
