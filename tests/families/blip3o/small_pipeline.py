"""A very small BLIP3o at work, opened once for all tests of a process."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np

from srum_jax.families.blip3o.answerer import Blip3oAnswerer
from srum_jax.families.blip3o.generator import Blip3oGenerator
from srum_jax.families.blip3o.sampler import FeatureSampler, PictureSampler, PixelSampler
from srum_jax.inference.opened import Opened, SmallFiles
from srum_jax.inference.programs import Programs
from srum_jax.inference.templates import Templates
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.compute import ComputeConfig
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from srum_jax.weights.tokenizer import load_tokenizer
from tests.families.blip3o import tiny_checkpoint

QUICK = PictureSampler(FeatureSampler(num_steps=2), PixelSampler(num_steps=2))


def picture(height=64, width=64, seed=0):
    """Uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def small_files(directory=None, **changes):
    directory = directory or tiny_checkpoint.shared()
    return SmallFiles(BLIP3O.read_config(directory), load_tokenizer(directory), Templates.read(), **changes)


def opened(devices=1, **mesh):
    """The checkpoint with its weights on some devices."""
    arranged = build_mesh(MeshConfig(**mesh), jax.devices()[:devices])
    parts = BLIP3O.parts_for({"draw", "read"})
    graphdef, state = load(open_checkpoint(tiny_checkpoint.shared(), BLIP3O, parts), mesh=arranged,
                           dtype=lambda parameter: "float32")
    compute = ComputeConfig(dtype="float32", attention="dense", remat="none")
    return Opened(**vars(small_files()), programs=Programs(graphdef, state, arranged, compute))


@functools.cache
def shared():
    return opened()


@functools.cache
def generator():
    return Blip3oGenerator(shared(), QUICK)


@functools.cache
def answerer():
    return Blip3oAnswerer(shared())


def changed_files(directory: pathlib.Path, *, without: tuple[str, ...] = (), **fields) -> pathlib.Path:
    """A copy of the checkpoint, with other fields of `config.json`."""
    shutil.copytree(tiny_checkpoint.shared(), directory, ignore=lambda _, names: {*without} & {*names})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **fields}))
    return directory
