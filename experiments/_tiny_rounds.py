"""Rounds in the shapes world: their variants, and what they are drawn for.

That is prompts of all categories, and pictures that they need not fit.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from srum_jax.rollouts.config import GENERATION, UNDERSTANDING
from srum_jax.training.experiment import Experiment

_PROMPTS_PER_CATEGORY, _PICTURES, _SEED = 32, 240, 7

# What variants of both experiments change.
SHUFFLED = "shuffled"
VARIANTS_OF_BOTH: Mapping[str, Mapping[str, Any]] = {
    "pictures": {"rollouts": {"directions": GENERATION}},
    "captions": {"rollouts": {"directions": UNDERSTANDING}},
    SHUFFLED: {"rollouts": {"shuffle_rewards": True}},
}


def prepare(experiment: Experiment, workdir: epath.PathLike) -> Experiment:
    """Draws prompts and pictures into `WORKDIR/shapes` unless the run names its own."""
    rollouts, folder = experiment.rollouts, epath.Path(workdir) / "shapes"
    if not rollouts.prompts:
        rollouts = dataclasses.replace(rollouts, prompts=os.fspath(_prompts(folder / "prompts.txt")))
    if not rollouts.pictures:
        rollouts = dataclasses.replace(rollouts, pictures=os.fspath(_pictures(folder / "pictures")))
    return dataclasses.replace(experiment, rollouts=rollouts)


def _prompts(path: epath.Path) -> epath.Path:
    # Here and below: an experiment's settings are looked at long before this is needed.
    from srum_jax.storage.atomic_file import write_text
    from srum_jax.worlds.shapes.prompt_set import balanced_prompts
    from srum_jax.worlds.shapes.prompts import prompt_text

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = balanced_prompts(_PROMPTS_PER_CATEGORY, _SEED, held_out=False)
        write_text(path, "".join(f"{prompt_text(prompt)}\n" for prompt in chosen))
    return path


def _pictures(folder: epath.Path) -> epath.Path:
    from experiments._tiny_bagel.samples import picture_of
    from srum_jax.storage.atomic_file import write_bytes
    from srum_jax.worlds.shapes.records import encode_png, sample_example

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_PICTURES):
        path = folder / f"{number:04d}.png"
        if not path.exists():
            write_bytes(path, encode_png(picture_of(sample_example(_SEED, number, 0.0, tidy=True))))
    return folder
