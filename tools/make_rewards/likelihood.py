"""Scores every generated image by how likely the model makes its prompt, given the image (SUDER's R_G).

The mean log probability per token of the prompt, at temperature 1. `judge --judge likelihood` turns these numbers into
global scores: the advantage of an image over the other candidates of its prompt, halved and held to [-1, 1]. Resumable,
and shared by several processes like `segment`.
"""

import argparse
import collections
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from srum_jax.command_line import in_range, user_path
from srum_jax.errors import BadInput, Failure
from srum_jax.families.registry import family_of
from srum_jax.inference.protocols import Scorer
from srum_jax.inference.requests import Question, RequestError
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import add_model_arguments, checker_of, load_pipeline, precision_of
from srum_jax.rewards.dual_config import DEFAULT_REQUEST
from srum_jax.rewards.groups import relative_scores
from srum_jax.stages import LIKELIHOOD, STAGE_VERSION
from srum_jax.weights.fingerprint import checkpoint_fingerprint
from tools.make_rewards.errors import Reject
from tools.make_rewards.own_model import require_scorer
from tools.make_rewards.run_folder import RunFolder, StageUnit, rejected
from tools.make_rewards.stage_run import add_stage_arguments, open_run, run_stage

SUMMARY = "score every image by the likelihood of its prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="the folder that `generate` has made, with several candidates a prompt")
    parser.add_argument("--request", default=DEFAULT_REQUEST, metavar="TEXT",
                        help="what the model is asked of the image; the prompt is the answer (default: %(default)s)")
    parser.add_argument("--count-end", action="store_true", help="the marker that ends the prompt counts too")
    parser.add_argument("--batch-size", type=in_range(int, 1), default=16, metavar="N",
                        help="images scored together (default: 16)")
    add_model_arguments(parser)
    add_stage_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    folder = open_run(arguments)
    if folder.num_candidates < 2:
        raise BadInput(f"--out {arguments.out}: expected several candidates a prompt to compare, found one; generate "
                       "with --num-candidates 4 or more.")
    think = Templates.read(arguments.templates)
    require_scorer(arguments)
    architecture = family_of(arguments.checkpoint).architecture
    begun_with = {
        "stage_version": STAGE_VERSION, "checkpoint_sha256": checkpoint_fingerprint(arguments.checkpoint, architecture),
        **precision_of(arguments), "request": arguments.request, "count_end": arguments.count_end,
        "batch_size": arguments.batch_size,
    }

    def begin() -> Callable[[StageUnit], list[dict[str, Any]]]:
        scorer = _scorer(arguments, think)
        return lambda unit: _score(unit, folder, scorer, arguments)

    run_stage(LIKELIHOOD, folder, begun_with, begin, _summary, arguments)


def scores_by_likelihood(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Given scores, as `GivenScores` takes them, of all images of a folder that this stage has completed.

    Raises:
      BadInput: it has not.
    """
    groups: dict[int, list[tuple[str, float]]] = {}
    for unit in folder.units:
        for generation, line in zip(folder.generated(unit), folder.lines(LIKELIHOOD, unit), strict=True):
            if "rejected" not in line:
                groups.setdefault(generation.index, []).append((generation.record_id, line["log_prob"]))
    entries = {}
    for group in groups.values():
        scores = relative_scores([log_prob for _, log_prob in group])
        for (record_id, log_prob), score in zip(group, scores, strict=True):
            entries[record_id] = {"global": {"score": score, "reason": f"log likelihood {log_prob:.6g} per token"}}
    return entries


def _scorer(arguments: argparse.Namespace, think: Templates) -> Scorer:
    """The model, once it is known that it can be asked about pictures.

    Raises:
      BadInput: it cannot.
    """
    question = Question(arguments.request, (np.zeros((64, 64, 3), np.uint8),))
    try:
        checker_of(arguments, think).check(question)
        return load_pipeline(arguments, think, understanding=True).scorer
    except RequestError as error:
        raise BadInput(f"--checkpoint {arguments.checkpoint}, --request: {error}") from error


def _score(
    unit: StageUnit, folder: RunFolder, scorer: Scorer, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    lines: dict[int, dict[str, Any]] = {}
    asked: list[tuple[int, Question, str]] = []
    generated = folder.generated(unit)
    for number, generation in enumerate(generated):
        try:
            _, pixels = folder.read_image(generation)
        except Reject as reject:
            lines[number] = rejected(generation.record_id, reject)
            continue
        asked.append((number, Question(arguments.request, (pixels,)), folder.prompt(generation).prompt))
    for first in range(0, len(asked), arguments.batch_size):
        batch = asked[first : first + arguments.batch_size]
        # Full batches, as every number of rows is another program to compile.
        filled = batch + [batch[0]] * (min(arguments.batch_size, len(asked)) - len(batch))
        try:
            found = scorer.texts([question for _, question, _ in filled], [prompt for _, _, prompt in filled],
                                 count_end=arguments.count_end)
        except RequestError as error:
            raise BadInput(f"{folder.prompts_file}: unit {unit.name}: {error}") from error
        for (number, _, _), log_prob in zip(batch, found.tolist(), strict=False):
            if not math.isfinite(log_prob):
                raise Failure(f"{generated[number].record_id}: the likelihood of its prompt is {log_prob}: expected a "
                              "number; the weights are damaged, or do not fit the dtype (try --dtype float32).")
            lines[number] = {"record_id": generated[number].record_id, "log_prob": log_prob,
                             "stage_version": STAGE_VERSION}
    return [lines[number] for number in range(len(generated))]


def _summary(records: Iterator[dict[str, Any]]) -> Mapping[str, Any]:
    found, lost = [], collections.Counter()
    for record in records:
        if "rejected" in record:
            lost[record["rejected"]["reason"]] += 1
        else:
            found.append(record["log_prob"])
    return {"images": len(found) + lost.total(), "rejected": dict(sorted(lost.items())),
            "mean_log_prob": float(np.mean(found)) if found else None,
            "std_log_prob": float(np.std(found)) if found else None}
