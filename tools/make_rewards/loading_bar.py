"""Keeps the bar that transformers draws while it loads weights out of files and pipes."""

import sys


def hide_loading_bar() -> None:
    """Leaves the bar where a terminal shows it."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
