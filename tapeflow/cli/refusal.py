"""What a command cannot do."""

import argparse


class Refusal(Exception):
    """What the user asked for cannot be done; one sentence says why."""


def whole(text: str) -> int:
    """A number from 1 up, as an option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, as {value} is")
    return value
