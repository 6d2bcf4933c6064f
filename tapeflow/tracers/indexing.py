"""Reading and assigning parts of a traced array, as NumPy's indexing does."""

from typing import Any

import numpy as np

from tapeflow.recorder import innermost
from tapeflow.sources import placed, refuse, user_place
from tapeflow.tracers import instructions
from tapeflow.tracers.array import TracedArray, lift
from tapeflow.tracers.number import Tracer


@placed
def get(array: TracedArray, key: Any) -> Any:
    """array[key]."""
    key = key if isinstance(key, tuple) else (key,)
    if _is_traced(key):
        return _get_at(array, key)
    if _is_basic(key):
        found = array.viewed(lambda x: x[_with_ellipsis(key)])
    else:
        found = gather(array, np.arange(array.size).reshape(array.shape)[key])
    if not found.shape and not any(part is ... for part in key):
        return number(found)
    return found


def _with_ellipsis(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key with an ellipsis, so that NumPy makes a view and reads no number."""
    return key if any(part is ... for part in key) else (*key, ...)


def number(array: TracedArray) -> Any:
    """An array of one number as that number."""
    if array.recorder is not None:
        return Tracer(array.recorder, array.slot)
    assert array.buffer.numbers is not None
    return array.buffer.numbers[array.offset]


@placed
def put(array: TracedArray, key: Any, value: Any) -> None:
    """array[key] = value."""
    key = key if isinstance(key, tuple) else (key,)
    value = lift(value)
    if _is_traced(key):
        _put_at(array, key, value)
        return
    if _is_basic(key):
        part = array.viewed(lambda x: x[_with_ellipsis(key)])
        if part.contiguous:
            _assign(part, value)
            return
        places = part.places()
    else:
        places = np.asarray(array.places()[key])
    value = _fitted(value, places.shape)
    buffer = _own(array, value)
    whole = TracedArray(buffer, 0, (buffer.size,), (1,))
    source = np.arange(buffer.size)
    source[places.ravel()] = buffer.size + np.arange(places.size)
    both = instructions.joined([whole, value.reshape(-1)])
    result = instructions.array_op("take", (both.size, *source.tolist()), (both,))
    buffer.write(0, buffer.size, result.slot)


def gather(array: Any, places: Any) -> Any:
    """The numbers at places of an array's flat order, in the shape of ``places``; zero at -1."""
    places = np.asarray(places)
    flat = places.ravel()
    if flat.size and (np.diff(flat) == 1).all() and flat[0] >= 0:
        first = int(flat[0])
        taken = array.reshape(-1)[first : first + flat.size]
        return taken.reshape(places.shape).copy()
    taken = instructions.array_op("take", (array.size, *flat.tolist()), (array,))
    return TracedArray.of(taken.recorder, taken.slot, places.shape, array.kind)


def _is_traced(key: tuple[Any, ...]) -> bool:
    return any(hasattr(part, "__tapeflow_backend__") for part in key)


def _is_basic(key: tuple[Any, ...]) -> bool:
    return all(
        part is None
        or part is ...
        or isinstance(part, slice)
        or (isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_)))
        for part in key
    )


def _fitted(value: Any, shape: tuple[int, ...]) -> Any:
    """A value broadcast to the shape it is assigned to; ValueError with NumPy's message."""
    if value.shape == shape:
        return value
    own = value.shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    try:
        return value.reshape(own).broadcast_to(shape)
    except ValueError:
        raise ValueError(
            "could not broadcast input array from shape "
            f"{_show(value.shape)} into shape {_show(shape)} ({user_place()})"
        ) from None


def _show(shape: tuple[int, ...]) -> str:
    return str(shape).replace(" ", "")


def _own(array: TracedArray, value: TracedArray) -> Any:
    """The array's buffer, ready to be written to in the recording in progress."""
    recorders = [x.recorder for x in (array, value) if x.recorder is not None]
    buffer = array.buffer
    if recorders:
        recorder = innermost(recorders)
        buffer.record_in(recorder)
        if buffer.recorder is not recorder:
            refuse("assign to an array of an enclosing function", "assign to a copy of it")
    return buffer


def _assign(part: TracedArray, value: TracedArray) -> None:
    """Put a value in place of a contiguous part."""
    value = _fitted(value, part.shape)
    buffer = _own(part, value)
    if part.size:
        if value.buffer is buffer:
            value = value.copy()
        buffer.write(part.offset, part.size, value.run_in(buffer.recorder))


def _get_at(array: TracedArray, key: tuple[Any, ...]) -> Any:
    """array[index] with an index that is computed: along the first axis."""
    index = key[0]
    if getattr(index, "kind", "") == "b":
        refuse(
            "choose elements by a traced condition: how many there are would depend on it",
            "use np.where(condition, x, 0.0)",
        )
    if len(key) > 1 and not all(isinstance(k, slice) and k == slice(None) for k in key[1:]):
        if all(isinstance(k, (int, np.integer)) for k in key[:-1]) and _is_traced(key[-1:]):
            return get(get(array, key[:-1]), key[-1])
        if all(not isinstance(k, slice) and k is not None and k is not ... for k in key):
            return _get_pointwise(array, key)
        refuse(
            "index with traced and plain indices together",
            "use np.take(x, index, axis), or np.take_along_axis",
        )
    return np.take(array, index, axis=0)


def _get_pointwise(array: TracedArray, key: tuple[Any, ...]) -> Any:
    """array[i, j, ...] with computed indices."""
    flat: Any = 0.0
    for axis, index in enumerate(key):
        n = array.shape[axis]
        index = lift(index)
        flat = flat * n + np.where(index < 0, index + n, index)
    rest = array.shape[len(key) :]
    return np.take(array.reshape(-1, *rest), flat, axis=0)


def _put_at(array: TracedArray, key: tuple[Any, ...], value: TracedArray) -> None:
    """array[condition] = value, and array[index] = value along the first axis."""
    if len(key) > 1:
        refuse("assign with traced indices on several axes", "use np.where")
    (index,) = key
    if getattr(index, "kind", "") == "b":
        mask = index
        if mask.shape != array.shape[: mask.ndim]:
            raise IndexError(
                f"boolean index of shape {mask.shape} did not match indexed array "
                f"of shape {array.shape} ({user_place()})"
            )
        mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
        if value.size != 1 and value.shape != array.shape:
            refuse(
                "assign an array to the elements that a traced condition chooses",
                "use np.where(condition, value, x) with a value for every element",
            )
    elif lift(index).size == 1:
        n = array.shape[0]
        at = lift(index).reshape(())
        at = np.where(at < 0, at + n, at)
        mask = (np.arange(n) == at).reshape((n,) + (1,) * (array.ndim - 1))
    else:
        refuse("assign at several traced indices", "use np.where, or assign in a loop")
    array[...] = np.where(mask, value, array)
