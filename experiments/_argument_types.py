"""Values on the command lines of the tiny experiments."""

import argparse
import os

from etils import epath


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


def local_folder(text: str) -> epath.Path:
    """An absolute path.

    Raises:
      ArgumentTypeError: it is empty, in a bucket, or a file.
    """
    if not text or "://" in text or os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"expected a folder of this machine, found {text!r}")
    return epath.Path(os.path.abspath(os.path.expanduser(text)))
