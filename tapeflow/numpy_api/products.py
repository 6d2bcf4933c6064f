"""Products of arrays."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapeflow.arrays.products import Product
from tapeflow.numpy_api.registry import stands_for
from tapeflow.sources import refuse, user_place
from tapeflow.tracers import array_op, lift
from tapeflow.tracers.protocol import UFUNCS


def _turned(x: Any) -> bool:
    """Whether the last two axes lie transposed in memory, which a product takes as they are."""
    rows, columns = x.shape[-2:]
    flipped = x.viewed(lambda stand_in: np.swapaxes(stand_in, -1, -2))
    return bool(not x.contiguous and flipped.contiguous and rows > 1 and columns > 1)


@stands_for("matmul", "linalg.matmul")
def matmul(a: Any, b: Any, out: Any = None) -> Any:
    a, b = lift(a), lift(b)
    if not a.shape or not b.shape:
        raise ValueError(f"matmul: an operand has no axes; use * instead ({user_place()})")
    first, last = a.ndim == 1, b.ndim == 1
    a = a.reshape(1, -1) if first else a
    b = b.reshape(-1, 1) if last else b
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc "
            f"signature (n?,k),(k,m?)->(n?,m?) (size {b.shape[-2]} is different from "
            f"{a.shape[-1]}) ({user_place()})"
        )
    result = _matmul(a, b)
    if first:
        result = result.reshape(*result.shape[:-2], result.shape[-1])
    if last:
        result = result.reshape(result.shape[:-1])
    result = result if result.shape else result.reshape(-1)[0]
    if out is not None:
        out[...] = result
        return out
    return result


def _matmul(a: Any, b: Any) -> Any:
    """A product of stacks of matrices, broadcast."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.ndim == 2 and a.ndim > 2 and a.contiguous:
        # One product of a tall matrix.
        whole = _matmul(a.reshape(-1, k), b)
        return whole.reshape(*a.shape[:-1], n)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batch = int(np.prod(stack, dtype=np.int64))
    a_single = batch == 1 or a.size == m * k
    b_single = batch == 1 or b.size == k * n
    if not a_single:
        a = np.broadcast_to(a, (*stack, m, k))
    if not b_single:
        b = np.broadcast_to(b, (*stack, k, n))
    a_turned, b_turned = _turned(a), _turned(b)
    d = Product(
        batch, m, k, n, int(a_turned), int(b_turned), int(a_single and batch > 1),
        int(b_single and batch > 1),
    )  # fmt: skip
    a = np.swapaxes(a, -1, -2) if a_turned else a
    b = np.swapaxes(b, -1, -2) if b_turned else b
    return array_op("matmul", d.parameters, (a, b)).reshape(*stack, m, n)


@stands_for("vecdot", "linalg.vecdot")
def vecdot(a: Any, b: Any, *, axis: int = -1) -> Any:
    return np.sum(a * b, axis=axis)


@stands_for("matvec")
def matvec(a: Any, b: Any) -> Any:
    return np.matmul(a, np.expand_dims(b, -1))[..., 0]


@stands_for("vecmat")
def vecmat(a: Any, b: Any) -> Any:
    return np.matmul(np.expand_dims(a, -2), b)[..., 0, :]


UFUNCS.update(matmul=matmul, vecdot=vecdot, matvec=matvec, vecmat=vecmat)


@stands_for("dot")
def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = lift(a), lift(b)
    if not a.shape or not b.shape:
        return a * b
    if b.ndim <= 2:
        return matmul(a, b, out)
    return np.tensordot(a, b, (-1, -2))


@stands_for("vdot")
def vdot(a: Any, b: Any) -> Any:
    return matmul(lift(a).reshape(-1), lift(b).reshape(-1))


@stands_for("inner")
def inner(a: Any, b: Any) -> Any:
    a, b = lift(a), lift(b)
    return a * b if not a.shape or not b.shape else np.tensordot(a, b, (-1, -1))


@stands_for("outer", "linalg.outer")
def outer(a: Any, b: Any, out: Any = None) -> Any:
    return lift(a).reshape(-1, 1) * lift(b).reshape(1, -1)


@stands_for("tensordot", "linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = lift(a), lift(b)
    if isinstance(axes, (int, np.integer)):
        own: Any = list(range(a.ndim - axes, a.ndim))
        other: Any = list(range(axes))
    else:
        own, other = ([x] if isinstance(x, (int, np.integer)) else list(x) for x in axes)
    own = list(normalize_axis_tuple(own, a.ndim))
    other = list(normalize_axis_tuple(other, b.ndim))
    if [a.shape[k] for k in own] != [b.shape[k] for k in other]:
        raise ValueError(f"shape-mismatch for sum ({user_place()})")
    kept_a = [k for k in range(a.ndim) if k not in own]
    kept_b = [k for k in range(b.ndim) if k not in other]
    size = int(np.prod([a.shape[k] for k in own], dtype=np.int64))
    shape = [a.shape[k] for k in kept_a] + [b.shape[k] for k in kept_b]
    left = (
        np.transpose(a, kept_a + own).reshape(-1, size) if a.size else a.reshape(-1, max(size, 1))
    )
    right = np.transpose(b, other + kept_b).reshape(size, -1) if b.size else b.reshape(size, -1)
    result = matmul(left, right).reshape(shape)
    return result if result.shape else result.reshape(-1)[0]


@stands_for("einsum")
def einsum(subscripts: Any, *operands: Any, out: Any = None, **options: Any) -> Any:
    """Two operands at a time, in NumPy's order of contraction."""
    if not isinstance(subscripts, str):
        refuse("record np.einsum with lists of axes", "write the subscripts as text")
    arrays = [lift(x) for x in operands]
    inputs, result = _subscripts(subscripts, arrays)
    arrays = list(arrays)
    stand_ins = [np.broadcast_to(0.0, x.shape) for x in arrays]
    spelled = ",".join(inputs) + "->" + result
    path = np.einsum_path(spelled, *stand_ins, optimize="greedy")[0][1:]
    for step in path:
        chosen = sorted(step, reverse=True)
        terms = [(inputs.pop(k), arrays.pop(k)) for k in chosen][::-1]
        rest = set("".join(inputs)) | set(result)
        while len(terms) > 1:
            (sa, a), (sb, b) = terms.pop(0), terms.pop(0)
            needed = rest | set("".join(s for s, _ in terms))
            terms.insert(0, _pair(sa, a, sb, b, needed))
        label, array = _single(*terms[0], rest)
        inputs.append(label)
        arrays.append(array)
    label, array = _single(inputs[0], arrays[0], set(result))
    final = np.transpose(array, [label.index(c) for c in result]) if label else array
    return final if final.shape else final.reshape(-1)[0]


def _subscripts(subscripts: str, arrays: list[Any]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, ellipses spelled out."""
    text = subscripts.replace(" ", "")
    left, _, result = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(arrays):
        raise ValueError(f"einsum: {len(inputs)} terms for {len(arrays)} operands ({user_place()})")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text]
    longest = ""
    for k, (label, x) in enumerate(zip(inputs, arrays, strict=True)):
        if "..." in label:
            extra = x.ndim - len(label.replace("...", ""))
            letters = "".join(free[:extra][::-1])
            longest = max(longest, letters, key=len)
            inputs[k] = label.replace("...", letters)
    if "->" not in text:
        joined = "".join(inputs)
        result = longest + "".join(
            sorted(c for c in set(joined) if joined.count(c) == 1 and c not in longest)
        )
    return inputs, result.replace("...", longest)


def _single(label: str, x: Any, kept: set[str]) -> tuple[str, Any]:
    """Diagonals of repeated letters, and sums over those that are not kept."""
    for letter in dict.fromkeys(label):
        while label.count(letter) > 1:
            first = label.index(letter)
            second = label.index(letter, first + 1)
            x = np.diagonal(x, axis1=first, axis2=second)
            label = label[:first] + label[first + 1 : second] + label[second + 1 :] + letter
    dropped = tuple(k for k, letter in enumerate(label) if letter not in kept)
    if dropped:
        x = lift(np.sum(x, axis=dropped))
    return "".join(c for c in label if c in kept), x


def _pair(sa: str, a: Any, sb: str, b: Any, needed: set[str]) -> tuple[str, Any]:
    """Two operands contracted by one product of stacks of matrices."""
    sa, a = _single(sa, a, needed | set(sb))
    sb, b = _single(sb, b, needed | set(sa))
    stack = "".join(c for c in sa if c in sb and c in needed)
    summed = "".join(c for c in sa if c in sb and c not in needed)
    own, other = ("".join(c for c in x if c not in y) for x, y in ((sa, sb), (sb, sa)))
    size = dict(zip(sa, a.shape, strict=True)) | {
        c: n for c, n in zip(sb, b.shape, strict=True) if n != 1 or c not in sa
    }

    def shape(letters: str) -> list[int]:
        return [size[c] for c in letters]

    def laid(x: Any, label: str, order: str) -> Any:
        moved = np.transpose(x, [label.index(c) for c in order])
        return np.broadcast_to(moved, shape(order))

    n_stack, n_sum = int(np.prod(shape(stack))), int(np.prod(shape(summed)))
    n_own, n_other = int(np.prod(shape(own))), int(np.prod(shape(other)))
    left = lift(laid(a, sa, stack + own + summed)).reshape(n_stack, n_own, n_sum)
    right = lift(laid(b, sb, stack + summed + other)).reshape(n_stack, n_sum, n_other)
    if not summed:
        product = left.reshape(n_stack, n_own, 1) * right.reshape(n_stack, 1, n_other)
    else:
        product = _matmul(left, right)
    label = stack + own + other
    return label, lift(product).reshape(shape(label))


@stands_for("kron")
def kron(a: Any, b: Any) -> Any:
    a, b = lift(a), lift(b)
    ndim = max(a.ndim, b.ndim)
    left = (1,) * (ndim - a.ndim) + a.shape
    right = (1,) * (ndim - b.ndim) + b.shape
    spread = [n for pair in zip(left, (1,) * ndim, strict=True) for n in pair]
    other = [n for pair in zip((1,) * ndim, right, strict=True) for n in pair]
    both = a.reshape(spread) * b.reshape(other)
    return lift(both).reshape([m * n for m, n in zip(left, right, strict=True)])


@stands_for("cross", "linalg.cross")
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(lift(a), axisa, -1), np.moveaxis(lift(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"np.cross is recorded of vectors with three numbers ({user_place()})")
    turn, turned = [1, 2, 0], [2, 0, 1]
    result = a[..., turn] * b[..., turned] - a[..., turned] * b[..., turn]
    return np.moveaxis(result, -1, axisc)
