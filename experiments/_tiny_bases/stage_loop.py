"""Runs a stage to its end, from wherever it was interrupted; a resumed stage gives the same numbers to the bit."""

import abc
import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import safe_open
from safetensors.numpy import save
from tqdm import tqdm

from experiments._tiny_bases.stage_state import Step
from srum_jax.data.image_transform import to_unit_range
from srum_jax.devices import start_devices
from srum_jax.errors import BadInput
from srum_jax.stages import noted
from srum_jax.storage.atomic_file import atomic_write, write_json

STATE, PROGRESS = "state.safetensors", "progress.json"
_LOG_EVERY = 100  # steps


class StagedRun(abc.ABC):
    """The stages of a base, each a method; each finishes those before it that it needs.

    Attributes:
      stages: their names.
      arguments: of `experiments.tiny_pretrain`.
    """

    stages: ClassVar[tuple[str, ...]]

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.seed, self.out = arguments, arguments.seed, epath.Path(arguments.out)

    def run(self) -> None:
        """The stage that is asked for, or all."""
        start_devices()
        for stage in self.stages if self.arguments.stage is None else (self.arguments.stage,):
            getattr(self, stage)()

    @abc.abstractmethod
    def drawn(self) -> np.ndarray:
        """Uint8 [N, S, S, 3]: what the first stages learn from."""

    def some_pictures(self, number: int, count: int) -> jax.Array:
        """Of those that were drawn, the ones of a step: float32 [B, S, S, 3] in [-1, 1]."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed + (9 << 32), number]))
        return jnp.asarray(to_unit_range(self._drawn[rng.integers(0, len(self._drawn), count)]))

    @functools.cached_property
    def _drawn(self) -> np.ndarray:
        return self.drawn()

    def finished(
        self, name: str, start: Any, inputs: Callable[[int], Any], step: Step, settings: Any, *more: Any
    ) -> Any:
        """The state at the end of a stage; `settings`, with `steps`, and `more` decide it."""
        described = {"seed": self.seed, "pictures": self.arguments.pictures}
        for group in (settings, *more):
            described |= dataclasses.asdict(group)
        return run_stage(
            self.out / name, start, inputs, step, steps=settings.steps, settings=described,
            save_seconds=self.arguments.save_seconds, only_load=self.arguments.unfinished,
        )


def run_stage(
    directory: epath.PathLike,
    start: Any,
    inputs: Callable[[int], Any],
    step: Step,
    *,
    steps: int,
    settings: dict[str, Any],
    save_seconds: float,
    only_load: bool = False,
) -> Any:
    """Runs the steps that are left.

    Args:
      directory: of the stage; holds its state and how far it came.
      start: the state before the first step, with `step`.
      inputs: of step number k; runs one step ahead in a thread of its own.
      step: (state, inputs) -> (state, losses).
      steps: in all.
      settings: everything that decides the result; a resumed run must have the same.
      save_seconds: least time between two saved states.
      only_load: take the state as far as it has come.

    Raises:
      BadInput: the directory holds a stage with other settings; or it holds none, although it is only to be loaded.
    """
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    state, seconds = start, 0.0
    if (directory / PROGRESS).exists():
        progress = json.loads((directory / PROGRESS).read_text())
        noted.raise_differences(directory, progress["settings"], settings,
                                "Use another directory, or the same settings.")
        state, seconds = load_state(directory / STATE, start), progress["seconds"]
    done = int(state.step)
    if only_load:
        if not done:
            raise BadInput(f"{directory}: expected a stage that was begun, found nothing; run it first.")
        return state
    began = saved = time.monotonic()
    with ThreadPoolExecutor(1) as ahead, tqdm(
        total=steps, initial=done, desc=directory.name, disable=not sys.stderr.isatty()
    ) as bar:
        upcoming = ahead.submit(inputs, done) if done < steps else None
        for number in range(done, steps):
            now = upcoming.result()
            upcoming = ahead.submit(inputs, number + 1) if number + 1 < steps else None
            state, losses = step(state, now)
            bar.update()
            last = number + 1 == steps
            if (number + 1) % _LOG_EVERY == 0 or last:
                elapsed = seconds + time.monotonic() - began
                text = " ".join(f"{name} {float(value):.4f}" for name, value in losses.items())
                bar.write(f"{directory.name} {number + 1}/{steps} {text} ({elapsed:.0f} s)", file=sys.stdout)
                sys.stdout.flush()
            if last or time.monotonic() - saved > save_seconds:
                save_state(directory / STATE, state)
                elapsed = seconds + time.monotonic() - began
                write_json(directory / PROGRESS, {"settings": settings, "step": number + 1, "seconds": elapsed})
                saved = time.monotonic()
    return state


def save_state(path: epath.PathLike, state: Any) -> None:
    """Writes all arrays of a tree, atomically."""
    leaves = {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))}
    with atomic_write(path) as file:
        file.write(save(leaves))


def load_state(path: epath.PathLike, like: Any) -> Any:
    """Reads what `save_state` wrote into a tree of the same structure.

    Raises:
      BadInput: the file holds arrays of other shapes.
    """
    leaves, structure = jax.tree.flatten(like)
    with safe_open(path, "np") as file:
        found = [file.get_tensor(name) for name in sorted(file.keys())]
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in found]:
        raise BadInput(f"{path}: holds arrays of other shapes than this model's; choose another directory.")
    return jax.tree.unflatten(structure, [jax.numpy.asarray(leaf) for leaf in found])
