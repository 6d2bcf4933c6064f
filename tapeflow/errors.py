"""The exceptions of tapeflow, each a kind of the standard exception a NumPy user would catch."""


class TracingError(TypeError):
    """A traced value was used where only a plain number can go, or left the trace it belongs to."""


class TapeError(ValueError):
    """A tape's arrays do not describe a valid program."""


class StructureError(TypeError):
    """Arguments do not have the structure, shapes or types that a tape or transform needs."""


class GateError(RuntimeError):
    """A user's gate raised, or returned something that is not a value or a list of gradients."""
