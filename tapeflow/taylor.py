"""Derivatives of any order along a line."""

import operator
from collections.abc import Callable
from typing import Any

from tapeflow.points import Point, recorded_of


def directional_taylor(function: Callable[..., Any], x: Any, v: Any, order: int) -> list[Any]:
    """The Taylor coefficients of ``function(x + t * v)`` in t, from that of order 0 to ``order``.

    x: the function's argument, a number, an array or a structure of them; v: a direction, of its
    structure and shapes. Returns a list of ``order + 1`` values of the function's structure:
    coefficient k is the k-th derivative in t at 0, over k factorial.

    The coefficients are computed together, by the arithmetic of power series, which needs some
    order^2 products for each operation of the function, and not a number that grows
    exponentially, as derivatives of derivatives do. Where a function has a kink, those are the
    coefficients of the side that its rule chooses (docs/conventions.md).

    Raises StructureError for a direction of another structure or shape, TypeError for an integer
    in x or an order that is not one, ValueError for one below 0, and GateError for an order that a
    gate's own backward does not have.

    >>> tpf.directional_taylor(np.exp, 0.0, 1.0, 3) == [1.0, 1.0, 1 / 2, 1 / 6]
    True
    >>> tpf.directional_taylor(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 3.0},
    ...                        {"a": 1.0, "b": -1.0}, 2)
    [6.0, 1.0, -1.0]
    """
    try:
        order = operator.index(order)
    except TypeError:
        raise TypeError(
            f"the order of a Taylor series is an integer, not a {type(order).__name__}"
        ) from None
    if order < 0:
        raise ValueError(f"the order of a Taylor series is 0 or more, not {order}")
    return Point(recorded_of(function, False), (x,), False).series(v, order)
