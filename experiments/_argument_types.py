"""A value on the command lines of the tiny experiments."""

import argparse
import os

from etils import epath


def local_folder(text: str) -> epath.Path:
    """An absolute path.

    Raises:
      ArgumentTypeError: it is empty, in a bucket, or a file.
    """
    if not text or "://" in text or os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"expected a folder of this machine, found {text!r}")
    return epath.Path(os.path.abspath(os.path.expanduser(text)))
