"""LoRA on the generation expert: which linear maps get low-rank factors, and where these start.

Only the factors are trained and have optimizer state; all loaded weights stay as they are, in the compute dtype.
`LowRankLinear` has the forward pass, `srum_jax.weights.merged` the merge.
"""

import dataclasses
import difflib
import fnmatch
import functools
import math
import zlib

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from srum_jax.models.bagel.sharding import RULES
from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.models.layers.low_rank import FACTOR_A, LowRankLinear

EXPERT_MAPS = ("query", "key", "value", "out", "gate", "up", "down")  # of every layer
# What targets may name, and where it lies in the model: all linear maps that only generation uses.
LINEAR_MAPS = {name: f"llm.layers.gen.{name}" for name in EXPERT_MAPS} | {
    name: name for name in ("time_embedder.fc1", "time_embedder.fc2", "vae2llm", "llm2vae")
}
_STREAM = 0x6C6F7261  # of random numbers; the noise of the steps has the numbers from 0 up


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank training of the generation expert."""

    rank: int = 16
    alpha: float = 32.0  # the difference is scaled by alpha / rank
    targets: tuple[str, ...] = EXPERT_MAPS  # patterns over the names of LINEAR_MAPS, as in a shell

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"model.lora.rank: expected a positive number, found {self.rank}.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"model.lora.alpha: expected a positive number, found {self.alpha}.")
        idle = [pattern for pattern in self.targets if not fnmatch.filter(LINEAR_MAPS, pattern)]
        if idle or not self.targets:
            near = {name for pattern in idle for name in difflib.get_close_matches(pattern, LINEAR_MAPS, n=2)}
            hint = f"; the nearest are {', '.join(sorted(near))}" if near else ""
            raise ValueError(f"model.lora.targets: {', '.join(map(repr, idle)) or 'an empty list'} names no linear map "
                             f"of the generation expert{hint}. There are: {', '.join(LINEAR_MAPS)}.")

    @property
    def scale(self) -> float:
        """Of the difference."""
        return self.alpha / self.rank

    @property
    def maps(self) -> tuple[str, ...]:
        """Paths of the linear maps that get factors."""
        return tuple(path for name, path in LINEAR_MAPS.items()
                     if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.targets))


def attach_factors(graphdef: nnx.GraphDef, state: nnx.State, config: LoraConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """The same model with low-rank factors beside the kernels of some linear maps.

    Args:
      graphdef, state: of the model; arrays or their shapes.
      config: which maps, and the rank.

    Returns:
      The new graph definition, and the factors as float32 shapes; it merges with them and the unchanged `state`.
    """
    model = nnx.merge(graphdef, state)
    for path in config.maps:
        *parents, name = path.split(".")
        parent = functools.reduce(getattr, parents, model)
        setattr(parent, name, LowRankLinear(getattr(parent, name), config.rank, config.scale))
    graphdef, factors, _ = nnx.split(model, nnx.LoRAParam, ...)
    return graphdef, factors


def initial_factors(factors: nnx.State, seed: int, mesh: Mesh) -> nnx.State:
    """Values to start from: `a` uniform in +-1 / sqrt(in), as in the authors' code and PEFT; `b` zero.

    So the first step sees exactly the model that was loaded. Every factor has a key of its own, from the seed and its
    path: its values depend neither on the mesh nor on the other targets.

    Args:
      factors: shapes, see `attach_factors`.
      seed: of the run.
      mesh: the factors are laid out on it like their kernels; the rank is not split.
    """
    stream = jax.random.fold_in(jax.random.key(seed), _STREAM)

    def start(path: tuple[str, ...], shape: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1] != FACTOR_A:
            return jnp.zeros(shape.shape, shape.dtype)
        key = jax.random.fold_in(stream, zlib.crc32(dotted(path).encode()))
        bound = shape.shape[-2] ** -0.5
        return jax.random.uniform(key, shape.shape, shape.dtype, -bound, bound)

    def start_all() -> nnx.State:
        return nnx.from_flat_state([(path, variable.replace(start(path, variable.get_value())))
                                    for path, variable in nnx.to_flat_state(factors)])

    return jax.jit(start_all, out_shardings=named_shardings(factors, mesh, RULES))()
