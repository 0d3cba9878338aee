"""LoRA: which linear maps get low-rank factors, and where these start.

Only the factors are trained and have optimizer state; all loaded weights stay as they are, in the compute dtype.
`LowRankLinear` has the forward pass, `srum_jax.weights.merged` the merge.
"""

import difflib
import fnmatch
import functools
import zlib

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from srum_jax.errors import BadInput
from srum_jax.models.architecture import Architecture
from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.models.layers.low_rank import FACTOR_A, LowRankLinear
from srum_jax.training.config import LoraConfig

_STREAM = 0x6C6F7261  # of random numbers; the noise of the steps has the numbers from 0 up


def mapped(config: LoraConfig, architecture: Architecture) -> tuple[str, ...]:
    """Paths of the linear maps that get factors.

    Raises:
      BadInput: a pattern names no linear map of the architecture.
    """
    named = architecture.linear_maps
    idle = [pattern for pattern in config.targets if not fnmatch.filter(named, pattern)]
    if idle or not config.targets:
        near = {name for pattern in idle for name in difflib.get_close_matches(pattern, named, n=2)}
        hint = f"; the nearest are {', '.join(sorted(near))}" if near else ""
        raise BadInput(f"model.lora.targets: {', '.join(map(repr, idle)) or 'an empty list'} names no linear map "
                         f"of {architecture.name} that can have factors{hint}. There are: {', '.join(named)}.")
    return tuple(path for name, path in named.items()
                 if any(fnmatch.fnmatchcase(name, pattern) for pattern in config.targets))


def attach_factors(
    graphdef: nnx.GraphDef, state: nnx.State, config: LoraConfig, architecture: Architecture
) -> tuple[nnx.GraphDef, nnx.State]:
    """The same model with low-rank factors beside the kernels of some linear maps.

    Args:
      graphdef, state: of the model; arrays or their shapes.
      config: which maps, and the rank.
      architecture: of the model; knows its linear maps.

    Returns:
      The new graph definition, and the factors as float32 shapes; it merges with them and the unchanged `state`.

    Raises:
      BadInput: a pattern of the targets names no linear map.
    """
    model = nnx.merge(graphdef, state)
    for path in mapped(config, architecture):
        *parents, name = path.split(".")
        parent = functools.reduce(getattr, parents, model)
        setattr(parent, name, LowRankLinear(getattr(parent, name), config.rank, config.scale))
    graphdef, factors, _ = nnx.split(model, nnx.LoRAParam, ...)
    return graphdef, factors


def initial_factors(factors: nnx.State, seed: int, mesh: Mesh, architecture: Architecture) -> nnx.State:
    """Values to start from: `a` uniform in +-1 / sqrt(in), as in the authors' code and PEFT; `b` zero.

    So the first step sees exactly the model that was loaded. Every factor has a key of its own, from the seed and its
    path: its values depend neither on the mesh nor on the other targets.

    Args:
      factors: shapes, see `attach_factors`.
      seed: of the run.
      mesh: the factors are laid out on it like their kernels; the rank is not split.
      architecture: has the rules of the layout.
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

    return jax.jit(start_all, out_shardings=named_shardings(factors, mesh, architecture.rules))()
