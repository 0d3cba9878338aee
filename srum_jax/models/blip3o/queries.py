"""Image queries: learned inputs of the language model whose last states condition the diffusion transformer.

B rows · S tokens · Q queries · D width
"""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.layers.parameter import parameter


class ImageQueries(nnx.Module):
    """The learned vectors. They begin standard normal."""

    def __init__(self, num_queries: int, width: int, *, rngs: nnx.Rngs):
        self.vectors = parameter(
            jax.nn.initializers.normal(1.0), (1, num_queries, width), ("small_in", "small_in", "small_out"), rngs=rngs,
        )

    def __call__(self, embedded: jax.Array, first: jax.Array) -> jax.Array:
        """Puts the queries in their places.

        Args:
          embedded: inputs of the language model, [B, S, D]; whatever lies in the places of queries is replaced.
          first: int32 [B], place of the first query.
        """
        vectors = self.vectors[...][0].astype(embedded.dtype)
        number = jnp.arange(embedded.shape[1])[None] - first[:, None]
        at = jnp.take(vectors, jnp.clip(number, 0, len(vectors) - 1), axis=0)
        return jnp.where(((number >= 0) & (number < len(vectors)))[..., None], at, embedded)

    def states(self, hidden: jax.Array, first: jax.Array) -> jax.Array:
        """The states at the queries' own places: [B, S, D] to [B, Q, D]."""
        places = first[:, None] + jnp.arange(self.vectors.shape[1])[None]
        return jnp.take_along_axis(hidden, places[..., None], axis=1)
