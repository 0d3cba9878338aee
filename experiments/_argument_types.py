"""Whole numbers on the command lines of the tiny experiments."""

import argparse


def count(text: str) -> int:
    """Zero or more.

    Raises:
      ArgumentTypeError: it is below zero.
      ValueError: it is no whole number; argparse says so.
    """
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, found {value}")
    return value


def positive(text: str) -> int:
    """One or more.

    Raises:
      ArgumentTypeError: it is below one.
      ValueError: as `count`.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {value}")
    return value
