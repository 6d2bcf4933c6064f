"""What a recorded function sees in place of its arguments: traced numbers and arrays."""

from tapeflow.tracers.array import TracedArray, lift
from tapeflow.tracers.instructions import apply, array_op
from tapeflow.tracers.number import Tracer
from tapeflow.tracers.protocol import elementwise, is_traced

__all__ = ["TracedArray", "Tracer", "apply", "array_op", "elementwise", "is_traced", "lift"]
