"""A tape as a function for JAX: the rules evaluated on JAX's arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.arrays import structural
from tapeflow.backend import KINDS, NUMBERS, Value
from tapeflow.errors import StructureError, TapeError
from tapeflow.export.library import Library
from tapeflow.export.whole import Values, evaluate, prepared
from tapeflow.loops import Loop, Switch
from tapeflow.ops import Op
from tapeflow.structure import flatten
from tapeflow.tape import Tape


def to_jax(tape: Tape) -> Callable[..., Any]:
    try:
        import jax.numpy as jnp
    except ImportError:
        raise ImportError("to_jax needs JAX: python -m pip install jax") from None
    run, values = prepared(tape, "JAX"), _Jax()
    treedef, leaves = tape.input_structure.treedef, tape.input_structure.leaves

    def function(*args: Any) -> Any:
        given, found = flatten(args)
        shapes = [leaf.shape or () for leaf in leaves]
        if found != treedef or [np.shape(value) for value in given] != shapes:
            raise StructureError(
                f"{tape.name} was recorded for arguments of another structure or other shapes: "
                "record it again for these"
            )
        inputs = [
            jnp.asarray(value, float).reshape(() if leaf.shape is None else -1)
            for value, leaf in zip(given, leaves, strict=True)
        ]
        return tape.output_structure.unflatten(evaluate(run, inputs, values))

    function.__name__ = function.__qualname__ = tape.name
    function.__doc__ = f"{tape!r} as a function for JAX."
    # What cannot be exported is refused now, and not when it is first called.
    import jax

    jax.eval_shape(
        lambda *flat: evaluate(run, flat, values),
        *(
            jax.ShapeDtypeStruct(() if leaf.shape is None else (leaf.size,), float)
            for leaf in leaves
        ),
    )
    return function


class _Backend(Library):
    """The primitives, and the elementary functions that JAX has, on JAX's arrays."""

    what = "JAX"

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        s = jax.scipy.special
        self.known = {
            "asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "atan2": jnp.arctan2,
            "asinh": jnp.arcsinh, "acosh": jnp.arccosh, "atanh": jnp.arctanh,
            "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "pow": jnp.power,
            "gamma": s.gamma, "gammaln": s.gammaln, "digamma": s.digamma,
            "erfinv": s.erfinv, "ndtri": s.ndtri,
            "log_ndtr": s.log_ndtr, "erf": s.erf, "erfc": s.erfc,
            "i0": s.i0, "i0e": s.i0e, "i1": s.i1, "i1e": s.i1e,
        }  # fmt: skip
        for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan"):
            self.known[name] = getattr(jnp, name)
        for name in ("sinh", "cosh", "tanh", "cbrt", "hypot"):
            self.known[name] = getattr(jnp, name)
        self._primitives: dict[str, Callable[..., Any]] = {
            "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
            "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
            "==": operator.eq, "!=": operator.ne, "&": jnp.logical_and, "|": jnp.logical_or,
            "!": jnp.logical_not, "fma": lambda a, b, c: a * b + c, "sqrt": jnp.sqrt,
            "floor": jnp.floor, "ceil": jnp.ceil, "rint": jnp.rint, "trunc": jnp.trunc,
            "absolute": jnp.abs, "copysign": jnp.copysign, "where": jnp.where,
        }  # fmt: skip

    def constant(self, kind: str, number: Any) -> Value:
        return KINDS[kind](self, float(number))

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        if name not in self._primitives or kind == "int":
            raise TapeError(f"it computes with the bits of numbers ({name})")
        if name == "-" and len(operands) == 1:
            return KINDS[kind](self, -operands[0].value)
        found = self._primitives[name](*(operand.value for operand in operands))
        return KINDS[kind](self, found)


class _Jax(Values):
    what = "JAX"

    def __init__(self) -> None:
        self.backend = _Backend()
        self._bodies: dict[Tape, Tape] = {}

    def constant(self, numbers: Any) -> Any:
        import jax.numpy as jnp

        return numbers if isinstance(numbers, NUMBERS) else jnp.asarray(np.array(numbers, float))

    def part(self, run: Any, first: int, last: int) -> Any:
        return run[first:last]

    def reshape(self, value: Any, shape: Sequence[int]) -> Any:
        import jax.numpy as jnp

        return jnp.reshape(value, tuple(shape))

    def broadcast(self, value: Any, shape: Sequence[int]) -> Any:
        import jax.numpy as jnp

        return jnp.broadcast_to(value, tuple(shape))

    def finished(self, op: Op, value: Any) -> Any:
        import jax

        return jax.lax.stop_gradient(value) if op.zero_derivative else value

    def array(self, op: Op, p: Sequence[int], operands: Sequence[Any]) -> Any:
        if isinstance(op.array, Loop):
            return self._loop(op.array, p, operands)
        if isinstance(op.array, Switch):
            return self._switch(op.array, operands)
        return arrays(op.name, p, operands)

    # Loops and branches, which JAX has as well.

    def _evaluate(self, body: Tape, inputs: Sequence[Any]) -> list[Any]:
        """The leaves of a body's result, as runs."""
        leaves = body.input_structure.leaves
        if body not in self._bodies:
            self._bodies[body] = prepared(body, self.what)
        given = [
            self.reshape(value, ()) if leaf.shape is None else value
            for value, leaf in zip(inputs, leaves, strict=True)
        ]
        found = evaluate(self._bodies[body], given, self)
        return [self.reshape(value, (-1,)) for value in found]

    def _switch(self, rule: Switch, operands: Sequence[Any]) -> Any:
        import jax
        import jax.numpy as jnp

        index, *rest = operands
        last = len(rule.branches) - 1
        place = jnp.clip(jnp.nan_to_num(index[0], posinf=last, neginf=0), 0, last).astype(int)

        def branch(k: int) -> Callable[..., Any]:
            own = rule.branches[k], rule.reads[k]
            return lambda *given: jnp.concatenate(
                self._evaluate(own[0], [given[j] for j in own[1]])
            )

        return jax.lax.switch(place, [branch(k) for k in range(last + 1)], *rest)

    def _loop(self, rule: Loop, p: Sequence[int], operands: Sequence[Any]) -> Any:
        import jax
        import jax.numpy as jnp

        rest = list(operands)
        count = rest.pop(0)[0] if rule.counted else None
        consts = [rest.pop(0) for _ in rule.consts]
        inits = [rest.pop(0) for _ in rule.inits]
        if rule.start is not None:
            return self._until(rule, consts, inits)
        if count is not None:
            return self._counted(rule, count, consts, inits)
        steps = int(p[0])
        places: dict[str, Any] = {
            "x": [x.reshape(steps, size) for x, size in zip(rest, rule.xs, strict=True)],
            "y": [None] * len(rule.ys),
            "stream": [None] * len(rule.streams),
            "index": [jnp.arange(steps, dtype=float)[:, None]],
        }
        results = []
        for phase in rule.phases:
            own = tuple(inits[: len(phase.carries)])
            inits = inits[len(phase.carries) :]
            taken = [(kind, k) for kind, k in phase.reads if kind in places]

            def step(carry: Any, per: Any, phase: Any = phase, taken: Any = taken) -> Any:
                found = dict(zip(taken, per, strict=True))
                known = {"const": consts, "carry": carry}
                inputs = [found[at] if at in found else known[at[0]][at[1]] for at in phase.reads]
                outputs = self._evaluate(phase.body, inputs)
                return tuple(outputs[: phase.n_carries]), tuple(outputs[phase.n_carries :])

            per = tuple(places[kind][k] for kind, k in taken)
            last, written = jax.lax.scan(step, own, per, length=steps, reverse=phase.reverse)
            for (kind, k), value in zip(phase.writes, written, strict=True):
                places[kind][k] = value
            results += [last[k] for k in phase.results]
        results += [y.reshape(-1) for y in places["y"]]
        return jnp.concatenate(results)

    def _counted(self, rule: Loop, count: Any, consts: Any, inits: Any) -> Any:
        import jax
        import jax.numpy as jnp

        if rule.streams or len(rule.phases) != 1:
            raise TapeError("it is the derivative of a loop of unknown length")
        (phase,) = rule.phases

        def step(i: Any, carry: Any) -> Any:
            known = {"const": consts, "carry": carry, "index": [jnp.asarray(i, float)[None]]}
            return tuple(self._evaluate(phase.body, [known[kind][k] for kind, k in phase.reads]))

        steps = jnp.maximum(count, 0.0).astype(int)
        last = jax.lax.fori_loop(0, steps, step, tuple(inits))
        return jnp.concatenate([jnp.zeros(0), *(last[k] for k in phase.results)])

    def _until(self, rule: Loop, consts: Any, inits: Any) -> Any:
        import jax
        import jax.numpy as jnp

        (phase,) = rule.phases

        def inputs(reads: Any, carry: Any) -> list[Any]:
            known = {"const": consts, "carry": carry, "index": [jnp.zeros(1)]}
            return [known[kind][k] for kind, k in reads]

        assert rule.start is not None
        (go,) = self._evaluate(rule.start, inputs(rule.start_reads, inits))

        def step(state: Any) -> Any:
            count, _, carry = state
            *carry, go = self._evaluate(phase.body, inputs(phase.reads, carry))
            return count + 1.0, go, tuple(carry)

        start = jnp.zeros(1), go, tuple(inits)
        count, _, last = jax.lax.while_loop(lambda state: state[1][0] != 0.0, step, start)
        return jnp.concatenate([count, *(last[k] for k in phase.results)])


def arrays(name: str, p: Sequence[int], operands: Sequence[Any]) -> Any:
    """An op on whole arrays, of runs; None if JAX has none."""
    import jax
    import jax.numpy as jnp

    linalg = jax.scipy.linalg
    a = operands[0]
    b: Any = operands[1] if len(operands) > 1 else None

    def folded(x: Any) -> Any:
        return x.reshape(p[0], p[1], p[2])

    def stack(x: Any, *shape: int) -> Any:
        return x.reshape(p[0], *shape)

    def joined(parts: Any) -> Any:
        return jnp.concatenate([part.reshape(p[0], -1) for part in parts], axis=1)

    table = np.array(p[1:], np.int64)

    def at() -> Any:
        index = b.reshape(p[0], p[2])
        known = jnp.where(jnp.isfinite(index), index, -p[1] - 1.0)
        place = jnp.trunc(jnp.clip(known, -p[1] - 1.0, p[1])).astype(int)
        place = jnp.where(place < 0, place + p[1], place)
        good = (place >= 0) & (place < p[1])
        return jnp.arange(p[0])[:, None], jnp.where(good, place, 0), good

    def take_at() -> Any:
        rows, place, good = at()
        return jnp.where(good, a.reshape(p[0], p[1])[rows, place], jnp.nan)

    def put_at() -> Any:
        rows, place, good = at()
        zeros = jnp.zeros((p[0], p[1]))
        return zeros.at[rows, place].add(jnp.where(good, a.reshape(p[0], p[2]), 0.0))

    def matmul(absolute: bool) -> Any:
        batch, m, k, n, a_turned, b_turned, a_single, b_single = p
        left = a.reshape(1 if a_single else batch, *((k, m) if a_turned else (m, k)))
        right = b.reshape(1 if b_single else batch, *((n, k) if b_turned else (k, n)))
        left = left.swapaxes(-1, -2) if a_turned else left
        right = right.swapaxes(-1, -2) if b_turned else right
        whole = left @ right
        if not absolute:
            return whole

        def term(h: Any, total: Any) -> Any:
            x, y = left[:, :, h, None], right[:, h, None, :]
            return total + jnp.where((x == 0.0) | (y == 0.0), 0.0, x * y)

        def exact() -> Any:
            return jax.lax.fori_loop(0, k, term, jnp.zeros_like(whole))

        # Zero times infinity is zero; a plain product makes a NaN of it.
        return jax.lax.cond(jnp.isnan(whole).any(), exact, lambda: whole)

    def triangular_solve() -> Any:
        return jax.lax.linalg.triangular_solve(
            stack(a, p[1], p[1]), stack(b, p[1], p[2]), left_side=True, lower=bool(p[3]),
            transpose_a=bool(p[4]),
        )  # fmt: skip

    def solve() -> Any:
        matrices = stack(a, p[1], p[1])
        return jnp.linalg.solve(
            matrices.swapaxes(-1, -2) if p[3] else matrices, stack(b, p[1], p[2])
        )

    def of_given(x: Any) -> Any:
        """Solutions, with zero for each column of zeros."""
        given = (stack(b, p[1], p[2]) != 0.0).any(axis=1, keepdims=True)
        return jnp.where(given, x, 0.0)

    def symmetric() -> Any:
        x = stack(a, p[1], p[1])
        return 0.5 * (x + x.swapaxes(-1, -2))

    def cumsum() -> Any:
        x = folded(a)[:, ::-1] if p[3] else folded(a)
        y = jnp.cumsum(x, axis=1)
        return y[:, ::-1] if p[3] else y

    made: dict[str, Callable[[], Any]] = {
        "view": lambda: a[structural._places(p)],
        "unview": lambda: jnp.zeros(p[0]).at[structural._places(p)].add(a),
        "take": lambda: jnp.where(table >= 0, a[np.maximum(table, 0)], 0.0),
        "put": lambda: jnp.zeros(p[0]).at[table[table >= 0]].add(a[table >= 0]),
        "concat": lambda: jnp.concatenate(list(operands)),
        "take_at": take_at,
        "put_at": put_at,
        "sum": lambda: jnp.sum(folded(a), axis=1),
        "amax": lambda: jnp.max(folded(a), axis=1),
        "amin": lambda: jnp.min(folded(a), axis=1),
        "cumsum": cumsum,
        "argmax": lambda: jnp.argmax(folded(a), axis=1).astype(float),
        "argmin": lambda: jnp.argmin(folded(a), axis=1).astype(float),
        "argsort": lambda: jnp.argsort(folded(a), axis=1, stable=True).astype(float),
        "searchsorted": lambda: jnp.searchsorted(a, b, "right" if p[2] else "left").astype(float),
        "log_of_sum": lambda: jax.scipy.special.logsumexp(folded(a), axis=1),
        "matmul": lambda: matmul(False),
        "azmatmul": lambda: matmul(True),
        "cholesky": lambda: jnp.linalg.cholesky(symmetric()),
        "triangular_solve": triangular_solve,
        "aztriangular_solve": lambda: of_given(triangular_solve()),
        "solve": solve,
        "azsolve": lambda: of_given(solve()),
        "inv": lambda: jnp.linalg.inv(stack(a, p[1], p[1])),
        "slogdet": lambda: jnp.concatenate(list(jnp.linalg.slogdet(stack(a, p[1], p[1])))),
        "det": lambda: jnp.linalg.det(stack(a, p[1], p[1])),
        "pinv": lambda: jnp.linalg.pinv(stack(a, p[1], p[2])),
        "expm": lambda: linalg.expm(stack(a, p[1], p[1])),
        "qr": lambda: joined(jnp.linalg.qr(stack(a, p[1], p[2]))),
        "eigh": lambda: joined(jnp.linalg.eigh(symmetric())),
        "svd": lambda: joined(jnp.linalg.svd(stack(a, p[1], p[2]), full_matrices=False)),
    }  # fmt: skip
    make = made.get(name)
    return None if make is None else make().reshape(-1)
