"""A pipeline around a model that runs in milliseconds, with random weights and numbers for words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from srum_jax.families.bagel.answerer import BagelAnswerer
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.family import Opened
from srum_jax.inference.programs import Programs
from srum_jax.inference.templates import Templates
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import named_shardings
from srum_jax.models.layers.sharding import RULES
from srum_jax.pipeline import Pipeline
from tests.models.packs import mesh_of, small_config


class NumberTokenizer:
    """"5 6 7" is the tokens 5, 6, 7; other words are hashed to tokens below 60."""

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        return [int(word) if word.isdigit() else sum(word.encode()) % 60 for word in text.split()]

    def decode(self, token_ids: list[int]) -> str:
        return " ".join(map(str, token_ids))


@functools.cache
def random_model(with_vit: bool = True):
    """Graph and state of a small model; every parameter is random, biases too."""
    graphdef, state = nnx.split(Bagel(small_config(), rngs=nnx.Rngs(0), parts=("vit", "vae") if with_vit else ("vae",)))
    rng = np.random.default_rng(0)

    def randomised(path, x):
        name = jax.tree_util.keystr(path)
        if "scale" in name or "table" in name:
            return x
        fan_in = x.shape[-2] if x.ndim > 1 else 10
        return jnp.asarray(rng.normal(size=x.shape) * fan_in**-0.5, jnp.float32)

    return graphdef, jax.tree_util.tree_map_with_path(randomised, state)


def small_pipeline(
    mesh_shape: tuple[int, ...] = (1, 1, 1, 1), dtype: str = "float32", attention: str = "dense",
    with_vit: bool = True, **options,
) -> Pipeline:
    """The pipeline on a mesh of virtual devices."""
    graphdef, state = random_model(with_vit)
    mesh = mesh_of(*mesh_shape)
    state = jax.tree.map(jax.device_put, state, named_shardings(state, mesh, RULES))
    compute = ComputeConfig(dtype=dtype, attention=attention, attention_block=16, remat="none")
    return pipeline_of(Programs(graphdef, state, mesh, compute), **options)


def pipeline_of(programs, templates=None, **options) -> Pipeline:
    """Around programs, or what stands in for them."""
    opened = Opened(programs.config, NumberTokenizer(), templates or Templates.read(), programs=programs, **options)
    return Pipeline(BagelGenerator(opened, FlowSampler()), BagelAnswerer(opened))


def draw(pipeline: Pipeline, requests, sampler: FlowSampler, plan=None):
    """Images sampled in a certain way."""
    return pipeline.generator.with_sampler(sampler).generate(requests, plan=plan)
