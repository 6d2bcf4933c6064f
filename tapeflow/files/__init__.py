"""Tapes as files: written and read, without running what a file holds. See docs/format.md."""

from tapeflow.files.store import FORMAT, load, reduce, save

__all__ = ["FORMAT", "load", "reduce", "save"]
