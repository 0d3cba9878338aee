"""The model that `segment` and `judge` ask about its own pictures."""

import argparse
import collections
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from srum_jax.errors import BadInput, Failure
from srum_jax.families.registry import family_of
from srum_jax.inference.requests import Question, RequestError
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import checker_of, load_pipeline, precision_of
from srum_jax.weights.fingerprint import checkpoint_fingerprint
from tools.make_rewards.run_folder import StageUnit

if TYPE_CHECKING:
    from srum_jax.pipeline import Pipeline

MakeLines = Callable[[StageUnit], list[dict[str, Any]]]
_MAX_NON_FINITE = 0.01  # share of calls; above, the weights or the dtype are at fault


def identity(arguments: argparse.Namespace, advice: str) -> dict[str, Any]:
    """Which weights are asked, without paths.

    Args:
      arguments: those of `add_model_arguments`.
      advice: what else to do where they name no checkpoint.

    Raises:
      BadInput: they name none that can be read.
    """
    if arguments.checkpoint is None:
        raise BadInput(f"--checkpoint: expected the model that is asked, found nothing; or {advice}.")
    try:
        architecture = family_of(arguments.checkpoint).architecture
        return {"checkpoint_sha256": checkpoint_fingerprint(arguments.checkpoint, architecture),
                **precision_of(arguments)}
    except (BadInput, OSError) as error:
        raise BadInput(f"--checkpoint {arguments.checkpoint}: {error}") from error


def require_scorer(arguments: argparse.Namespace) -> None:
    """Raises BadInput where the family of the model cannot say how likely a text is; no weights are read."""
    family = family_of(arguments.checkpoint)
    if family.scorer is None:
        raise BadInput(f"--checkpoint {arguments.checkpoint}: models of the family {family.architecture.name} cannot "
                       "say how likely a text is.")


def answerer(arguments: argparse.Namespace, think: Templates) -> "Pipeline":
    """The model, once it is known that it can be asked about pictures.

    Raises:
      BadInput: it cannot.
    """
    question = Question("?", (np.zeros((64, 64, 3), np.uint8),))
    try:
        checker_of(arguments, think).check(question)
        pipeline = load_pipeline(arguments, think, understanding=True)
        pipeline.check(question)
    except RequestError as error:
        raise BadInput(
            f"--checkpoint {arguments.checkpoint}: it may draw, but cannot be asked about pictures: {error}") from error
    return pipeline


def box_frame(arguments: argparse.Namespace) -> Callable[[int, int], tuple[int, int]] | None:
    """In which pixels the model names the boxes of a picture, see `Family.box_frame`."""
    family = family_of(arguments.checkpoint)
    if family.box_frame is None:
        return None
    from srum_jax.pipeline import small_files  # loads an array library

    return functools.partial(family.box_frame, small_files(family, arguments.checkpoint).config)


def watched(make_lines: MakeLines, who: str, dtype: str) -> MakeLines:
    """The same; raises Failure where too many replies are made of no numbers."""
    tally = collections.Counter()

    def watching(unit: StageUnit) -> list[dict[str, Any]]:
        lines = make_lines(unit)
        tally["calls"] += sum(len(line.get("calls", ())) for line in lines)
        tally["non_finite"] += sum(line.get("problems", {}).get("non_finite", 0) for line in lines)
        if tally["non_finite"] > max(1, _MAX_NON_FINITE * tally["calls"]):
            raise Failure(
                f"{tally['non_finite']} of {tally['calls']} replies of {who}, {dtype}, were made of numbers that are "
                "none: expected at most 1 %. The weights are damaged, or do not fit the dtype; try --dtype float32.")
        return lines

    return watching
