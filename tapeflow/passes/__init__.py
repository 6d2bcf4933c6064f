"""Passes: tape to tape, each in a file of its own, none changing a bit of a result."""
