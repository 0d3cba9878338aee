"""Whether a template holds the weights that a training run started from: what the run lacks is taken from there."""

import json
import logging
from typing import Any

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.training.run import CONFIG_FILE
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.converted import ConvertedArrays, is_converted
from srum_jax.weights.dtypes import cast, weight_dtype
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.fingerprint import checkpoint_fingerprint, files_fingerprint
from srum_jax.weights.published import PublishedSource
from srum_jax.weights.safetensors_read import Region
from srum_jax.weights.weight_files import choose_files

_LOGGER = logging.getLogger(__name__)
_SIDE = 16  # of the piece that is compared of every matrix of every layer


def check_start(step: epath.Path, template: Checkpoint) -> None:
    """Refuses a template whose weights are not those that a run started from.

    The run's `config.json` has the fingerprint of its start. A template of another fingerprint is taken if the start is
    still where the run found it, and everything that both hold is the same in both, to the precision of bfloat16: so it
    is with converted weights and their source, and with a save that was filled up with a part of another checkpoint.

    Args:
      step: of the run. Where `config.json` does not lie two levels above it the start is unknown, which is warned of.
      template: opened, published.

    Raises:
      WeightsError: the weights differ, or cannot be compared.
    """
    config = step.parent.parent / CONFIG_FILE
    start, expected = _recorded(config)
    if expected is None:
        _LOGGER.warning("%s does not say which weights the run started from (expected %s with read.checkpoint_sha256): "
                        "that they are those of the template is not checked, and what the step lacks is taken from "
                        "%s.", step, config, template.published.source.chosen)
        return
    chosen = template.published.source.chosen
    if files_fingerprint(chosen) == expected:
        return
    refused = f"--template {chosen}: expected the weights that the run {step} started from, {start}"
    noted = f"({config}: read.checkpoint_sha256 {expected[:12]})"
    try:
        found = checkpoint_fingerprint(start, template.architecture)
    except (BadInput, OSError) as error:
        raise WeightsError(f"{refused} {noted}, found others, and the start is not there to compare them with "
                           f"({str(error).rstrip('.')}). Give the start as --template, or bring it back to where the "
                           "run found it.") from error
    if found != expected:
        raise WeightsError(f"{refused} {noted}, found others; what lies at {start} by now is another checkpoint, too "
                           f"({found[:12]}). Give the start as --template, or bring it back to where the run found it.")
    if (other := _first_difference(start, template)) is not None:
        remedy = (f"the checkpoint that {start} was converted from" if is_converted(start) else
                  f"{start}; if it lacks a part, fill it up first (docs/convert_weights.md) and give the filled folder")
        raise WeightsError(f"{refused}, found other values, for instance in '{other}'. Give as --template {remedy}.")


def _recorded(config: epath.Path) -> tuple[str, str | None]:
    """What a run was told to start from, and the fingerprint that this had."""
    try:
        settings: Any = json.loads(config.read_text())
        start, digest = settings["model"]["checkpoint"], settings["read"]["checkpoint_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", None
    return (start, digest) if isinstance(start, str) and isinstance(digest, str) else ("", None)


def _first_difference(start: str, template: Checkpoint) -> str | None:
    """Name of a tensor that the start and the template hold, with other values; None where there is none."""
    architecture, published = template.architecture, template.published
    if is_converted(start):
        source = ConvertedArrays(start, architecture)
        constants = {*source.manifest.computed, *published.plan.computed}
        shapes = {path: shape for path, shape in source.shapes.items() if path not in constants}
        theirs, read = published.shapes, published.read
    else:
        source = PublishedSource(choose_files(start, architecture, frozenset(architecture.parts)))
        shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
        theirs = {name: tensor.shape for name, tensor in published.source.tensors.items()}
        read = published.source.read
    for name, shape in shapes.items():
        if name in theirs:
            region = _middle(shape, stacked=is_converted(start) and architecture.table.is_stacked(name))
            if theirs[name] != shape or not _equal(source.read(name, region), read(name, region)):
                return name
    return None


def _middle(shape: tuple[int, ...], stacked: bool) -> Region:
    return tuple(slice(0, size) if stacked and axis == 0 else
                 slice(first := max(0, (size - _SIDE) // 2), min(size, first + _SIDE))
                 for axis, size in enumerate(shape))


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    rounded = weight_dtype("bfloat16")
    return cast(first, rounded).tobytes() == cast(second, rounded).tobytes()
