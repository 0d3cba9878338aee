"""Runs a stage to its end, from wherever it was interrupted; a resumed stage gives the same numbers to the bit."""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from etils import epath
from safetensors import safe_open
from safetensors.numpy import save
from tqdm import tqdm

from experiments._tiny_bagel.autoencoder import StageState
from srum_jax.errors import BadInput
from srum_jax.stages import noted
from srum_jax.storage.atomic_file import atomic_write, write_json

STATE, PROGRESS = "state.safetensors", "progress.json"


def run_stage(
    directory: epath.PathLike,
    start: StageState,
    inputs: Callable[[int], Any],
    step: Callable[[StageState, Any], tuple[StageState, Any]],
    *,
    steps: int,
    settings: dict[str, Any],
    save_seconds: float = 60.0,
    log_every: int = 100,
    only_load: bool = False,
) -> StageState:
    """Runs the steps that are left.

    Args:
      directory: of the stage; holds its state and how far it came.
      start: the state before the first step.
      inputs: of step number k; runs one step ahead in a thread of its own.
      step: (state, inputs) -> (state, loss or a dictionary of losses).
      steps: in all.
      settings: everything that decides the result; a resumed run must have the same.
      save_seconds: least time between two saved states.
      log_every: steps between printed losses.
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
            if (number + 1) % log_every == 0 or last:
                elapsed = seconds + time.monotonic() - began
                bar.write(f"{directory.name} {number + 1}/{steps} {_text(losses)} ({elapsed:.0f} s)", file=sys.stdout)
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


def _text(losses: Any) -> str:
    if not isinstance(losses, dict):
        return f"loss {float(losses):.4f}"
    return " ".join(f"{name} {float(value):.4f}" for name, value in losses.items())
