"""The training command on the tiny experiment, and what it leaves in its work directory."""

import json

import numpy as np

from srum_jax.weights.orbax_params import OrbaxArrays
from tests import commands


def start(workdir, *settings, more=(), **options):
    """Starts the command with `--set` for every setting; `more` are further words."""
    return commands.start("srum_jax.train", "--experiment=tiny", "--workdir", workdir, *more,
                          *(f"--set={setting}" for setting in settings), **options)


def run(workdir, *settings, **options):
    """As `start`, to its end."""
    return start(workdir, *settings, **options).finish()


def steps(workdir):
    """The finished checkpoints."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.exists() else []


def lines(workdir):
    """The logged values, without those that measure time or memory."""
    text = (workdir / "metrics.jsonl").read_text()
    return [{name: value for name, value in json.loads(line).items()
             if not name.startswith(("speed/", "time/", "memory/"))}
            for line in text.splitlines()]


def parameters(workdir, step):
    """Every trained parameter of a checkpoint."""
    arrays = OrbaxArrays(workdir / "checkpoints" / str(step))
    return {name: np.asarray(arrays.read(name)) for name in arrays.shapes}
