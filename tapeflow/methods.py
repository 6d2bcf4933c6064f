"""The methods of a tape that layers above it provide: their signatures and documentation."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def provided_by(module: str) -> Callable[[F], F]:
    """A method of `Tape` whose body is the function of its name in a module of a layer above.

    The module is imported when the method is first called, so this layer stays below it. The
    function takes the tape and then the method's own parameters.
    """

    def declare(method: F) -> F:
        body: Callable[..., Any] | None = None

        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            nonlocal body
            if body is None:
                body = getattr(importlib.import_module(module), method.__name__.strip("_"))
            return body(*args, **options)

        call.__dict__["provided_by"] = module
        return cast(F, call)

    return declare


class Methods:
    """What a `Tape` can do besides being one; each body is in the module that it names."""

    @provided_by("tapeflow.engine.evaluate")
    def __call__(self, *args: Any) -> Any:
        """The recorded function's value at other arguments of the same structure and shapes."""

    @provided_by("tapeflow.engine.evaluate")
    def value_and_grad(self, *args: Any) -> Any:
        """The value and the gradient in every argument, for a tape with one number as result.

        Returns ``(value, gradient)``; the gradient has the structure of the argument, or is a
        tuple with one for each argument where there are several. Raises StructureError for
        arguments of another structure or shape than recorded, and for a result that is not one
        number.

        >>> tpf.record(lambda x, y: x * y, 1.0, 1.0).value_and_grad(3.0, 4.0)
        (12.0, (4.0, 3.0))
        """

    @provided_by("tapeflow.engine.evaluate")
    def forward(self, *inputs: Any) -> Any:
        """Run every gate at these inputs, keep each one's value for `backward`, give the output.

        The values are kept for the calling thread alone. Raises StructureError for arguments of
        another structure or shape, GuardError where they take another branch.

        >>> tape = tpf.record(lambda x, y: x * y, 1.0, 1.0)
        >>> tape.forward(3.0, 4.0)
        12.0
        """

    @provided_by("tapeflow.engine.evaluate")
    def backward(self, seed: Any = 1.0) -> Any:
        """The gradients of the inputs, from the values that the last `forward` kept.

        seed: the gradient that flows into the output, in the output's structure. Returns one
        gradient for one argument, and a tuple for several. Raises RuntimeError before `forward`.

        >>> tape = tpf.record(lambda x, y: x * y, 1.0, 1.0)
        >>> tape.forward(3.0, 4.0), tape.backward()
        (12.0, (4.0, 3.0))
        """

    @provided_by("tapeflow.engine.evaluate")
    def njit(self) -> Any:
        """A `NativeTape`, which functions compiled with Numba can call, for one number as result.

        Raises TapeError for several results, and where operations run in Python.

        >>> import numba
        >>> cube = tpf.record(lambda x: x**3, 1.0).njit()
        >>> gradient = np.empty(1)
        >>> numba.njit(lambda x, g: cube.value_and_grad(x, g))(np.array([2.0]), gradient), gradient
        (8.0, array([12.]))
        """

    @provided_by("tapeflow.files")
    def save(self, file: Any) -> None:
        """Write the tape to a file, from which `tpf.load` reads it: see docs/format.md.

        file: a path, or a file opened for writing bytes. A file that is there is replaced when
        the new one is whole. It holds the names of the source files, but no code: gates of your
        own are in it by name. Raises TapeError for what the format cannot hold, such as arguments
        of a registered class, and OSError where the file cannot be written.

        >>> import io
        >>> file = io.BytesIO()
        >>> tpf.record(lambda x: x * x, 1.0).save(file)
        >>> tpf.load(io.BytesIO(file.getvalue()))(3.0)
        9.0
        """

    @provided_by("tapeflow.export.c")
    def to_c(self, path: Any = None, *, name: str | None = None) -> Any:
        """The tape as C99: its value, its gradient, and both for many samples. See docs/export.md.

        path: a file ending in .c to write, with a header beside it; None writes nothing. name: of
        the functions; as the recorded function's if None. Returns the whole text, header and
        source. It needs nothing but the standard library, allocates nothing, and gives the bits
        that the interpreter gives (products of matrices and factorisations to rounding).

        Raises TapeError for an operation that has no C, by its name, and for a name that C has
        taken.

        >>> print(tpf.record(lambda x: x * x, 3.0).to_c(name="f"))  # doctest: +ELLIPSIS
        /* <lambda>, exported by tapeflow...
        int f(const double *x, double *y, double *w)
        {
            (void)w;
            /* ... */
            const double v1 = x[0] * x[0];
            y[0] = v1;
            return 0;
        }...
        """

    @provided_by("tapeflow.export.jax")
    def to_jax(self) -> Any:
        """The tape as a function for JAX, which ``jax.jit``, ``grad`` and ``vmap`` take.

        It takes what the tape takes. JAX computes in float64 where ``jax_enable_x64`` is set.
        Raises TapeError for an operation that JAX has not, by its name, and for a tape with
        branches on values, and ImportError without JAX. See docs/export.md.
        """

    @provided_by("tapeflow.export.onnx")
    def to_onnx(self, path: Any = None) -> Any:
        """The tape as an ONNX model, in float64, checked by ``onnx.checker``.

        path: a file to write as well. Inputs have the names of the tape's, in its order; results
        are ``result0``, ``result1`` ... in the order of the leaves of its result. Raises TapeError
        for an operation that ONNX has not, by its name, and for a tape with branches on values,
        and ImportError without onnx. See docs/export.md.
        """

    @provided_by("tapeflow.files")
    def __reduce__(self) -> Any:
        """Pickle the tape as the file that it would be, and verify it again when it is loaded.

        Raises TapeError where it has a gate that another process could not import.
        """

    @provided_by("tapeflow.graphs.picture")
    def draw(self, path: Any = None, *, at: Any = None, by: str = "auto") -> Any:
        """The computational graph as a picture: gates, values above wires, gradients below.

        path: a file to write as well, whose name ends in .svg, .dot, .png or .pdf; the last two
        need matplotlib. at: the arguments, in a tuple, to show values and gradients for, with every
        seed 1; without it they are those of the last `forward` and `backward` in this thread. by:
        "gate", or "line", "function" or "file" for one box each with the number of its gates;
        "auto" draws by gate up to 200 gates, and then by what has no more than 60 boxes.

        Returns a `Picture` with ``svg`` and ``dot`` as text and ``save(path)``, which a notebook
        shows. Where a value is read several times its wire forks at a dot, and the gradients of the
        branches stand at their ends. A second circle around a gate says that a branch was decided
        by its value.

        Raises ValueError for another file format or ``by``, and for more than 3,000 gates one by
        one; StructureError for arguments of another structure; ImportError where matplotlib is
        needed and missing.

        >>> tape = tpf.record(lambda x, y: x * y + x, 1.0, 1.0)
        >>> tape.draw(at=(3.0, 4.0))
        <tapeflow picture of <lambda>: 5 nodes>
        """

    @provided_by("tapeflow.graphs.picture")
    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any: ...

    @provided_by("tapeflow.graphs.explain")
    def explain(self, path: Any = None, *, at: Any = None) -> Any:
        """A page in HTML that steps through both sweeps, gate by gate, and computes them itself.

        path: a file to write as well. at: the arguments, in a tuple, that its inputs begin with;
        without it they are those of the last `forward` in this thread, or each 1. The page needs
        nothing else, no network either. It writes out local derivatives and the chain rule's
        products, sums them where a value is read several times, compares each gradient with
        differences, and lets inputs be edited; its numbers have the bits of the library's. Arrays
        are taken apart into their numbers, and loops into their steps; where inputs are edited so
        that a branch or a number of steps would be another, the page says so. What it cannot
        compute, such as factorisations, SciPy's functions, gates in Python, and loops with more
        gates than it has room for, is shown with the values and the derivatives that it has at
        these arguments; inputs that flow into it cannot be edited.

        Returns a `Page` with ``html`` as text and ``save(path)``, which a notebook shows. Raises
        TapeError for more than 3,000 gates or 300 kB, and for an array operation that the page
        cannot compute of more than 4,000 derivatives; StructureError for arguments of another
        structure; ValueError for a file that is not named .html; and what the function raises at
        these arguments, such as LinAlgError.

        >>> tpf.record(lambda x, y: x * y + x, 1.0, 1.0).explain(at=(3.0, 4.0))
        <tapeflow page of <lambda>: ... kB>
        """

    @provided_by("tapeflow.graphs.summary")
    def summary(self) -> Any:
        """What the tape consists of, as a `Summary`: a table to print, whose fields can be read.

        Ops by kind, the longest chain of gates, slots and memory, guards, loops and branches with
        their gates, and macro-ops: the bodies that the fused tier compiles, of which those that
        repeat run by one kernel. Operations are counted from the rules' texts, on one sample; of
        matrices by their sizes; of a loop whose steps depend on values for one of them. A
        console and a notebook show it by themselves.

        >>> summary = tpf.record(lambda x: np.sin(x) * x, 1.0).summary()
        >>> print(summary)  # doctest: +ELLIPSIS
        tape                   <lambda>
        inputs                        1
        ...
        >>> summary.gates, summary.depth
        (2, 2)
        """

    @provided_by("tapeflow.graphs.profile")
    def profile(self, *args: Any) -> Any:
        """Where one sample's time goes at these arguments, as a `Profile`: a table to print.

        Seconds of both sweeps by op and by source line, each measured by running those kernels
        alone, one for each gate: that is the interpreter tier, as the table says, whatever tier is
        set; the fused tier takes less. ``svg`` is a flame of functions, lines and ops,
        ``save("profile.svg")`` writes it, and a notebook shows both. It takes some milliseconds for
        each line and op. Raises StructureError for arguments of another structure or shape.

        >>> profile = tpf.record(lambda x: np.sin(x) * x, 1.0).profile(0.5)
        >>> print(profile)  # doctest: +ELLIPSIS
        one sample in the interpreter tier, a kernel for each gate: ...
        op   gates  forward  reverse  share
        ...
        >>> sorted(profile.by_op())
        ['mul', 'sin']
        """

    @provided_by("tapeflow.graphs.table")
    def table(self) -> Any:
        """The Wengert list as a `Table` to print: each gate, its operands, value and gradient.

        Values and gradients are those of the last `forward` and `backward` in this thread, and left
        out before them; for an array each number has a row. A console and a notebook show it by
        themselves, and its rows can be gone through: ``slot``, ``gate``, ``operands``, ``value``,
        ``gradient`` and ``source``.

        >>> tape = tpf.record(lambda x, y: x * y, 1.0, 1.0)
        >>> tape.forward(3.0, 4.0), tape.backward()
        (12.0, (4.0, 3.0))
        >>> tape.table()  # doctest: +ELLIPSIS
        slot  gate   operands  value  gradient  source
        x     input                3         4
        y     input                4         3
        v0    mul    x, y         12         1  ...
        """
