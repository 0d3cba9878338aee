"""Draws the candidates: `python -m srum_jax.generate`, as the first of the stages.

One image per prompt and candidate. Resumable; --process-index and --num-processes, or --distributed, share the work.
"""

from srum_jax.generate import add_arguments
from srum_jax.generate import execute as run

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "draw candidate images for a list of prompts"
