"""Which token may attend to which, from a few integers per token."""

import jax

from srum_jax.models.layers.token_stream import TokenStream


def allowed(query: TokenStream, key: TokenStream) -> jax.Array:
    """The attention rule of packed samples (BAGEL's causal, full and noise splits).

    A query sees a key when both lie in the same sample; the key does not come later in the sample's order, unless
    both share a split that attends in both directions; and the key is not in a noise split other than the query's own.
    Tokens may be stored in any order. Padding (sample -1) sees padding only, so that no row of the mask is empty.

    Args:
      query: fields int32 [..., Sq].
      key: fields int32 [..., Sk].

    Returns:
      bool [..., Sq, Sk].
    """
    q = jax.tree.map(lambda x: x[..., :, None], query)
    k = jax.tree.map(lambda x: x[..., None, :], key)
    same_split = q.split == k.split
    return (
        (q.sample == k.sample)
        & ((k.order <= q.order) | (same_split & (q.full > 0)))
        & ((k.noise == 0) | same_split)
    )

