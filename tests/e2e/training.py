"""The training command on the tiny experiment, and what it leaves in its work directory."""

import atexit
import functools
import json
import pathlib
import shutil
import tempfile

import numpy as np

from experiments.tiny import experiment, prepare
from srum_jax.weights.orbax_params import OrbaxArrays
from tests import commands

SMALL_PICTURES = tuple(
    f"rows.{name}=32" for name in ("max_size", "min_size", "image_height", "image_width", "latent_capacity"))
# One compiled step for many tests. A large eps keeps rounding from deciding the sign of an update.
QUICK = ("data.rows_per_batch=2", "optimizer.warmup_steps=1", "optimizer.eps=1e-4", *SMALL_PICTURES)


@functools.cache
def _shapes():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="srum-shapes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(experiment(), folder)
    return folder / "shapes"


def with_shapes(workdir):
    """A work directory with the model and records that the command would make, made once for all tests."""
    if not (workdir / "shapes").exists():
        shutil.copytree(_shapes(), workdir / "shapes")
    return workdir


def start(workdir, *settings, more=(), module="srum_jax.train", **options):
    """Starts the command with `--set` for every setting; `more` are further words."""
    return commands.start(module, "--experiment=tiny", "--workdir", with_shapes(workdir), *more,
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
