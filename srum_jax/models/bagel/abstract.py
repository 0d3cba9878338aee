"""A model's shapes without its values, however large it is."""

import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel


def abstract_bagel(
    config: BagelConfig, *, with_vit: bool = True, with_vae: bool = True, param_dtype: jnp.dtype = jnp.float32
) -> tuple[nnx.GraphDef, nnx.State]:
    """The structure of a model and the shapes of its variables; nothing is allocated.

    Returns:
      The graph definition, and a state whose values are `jax.ShapeDtypeStruct`.
    """
    model = nnx.eval_shape(
        lambda: Bagel(config, rngs=nnx.Rngs(0), with_vit=with_vit, with_vae=with_vae, param_dtype=param_dtype)
    )
    return nnx.split(model)
