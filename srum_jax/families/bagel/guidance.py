"""Classifier-free guidance of the predicted velocity, with renormalisation.

B rows · G latent tokens · P values of a token
"""

import jax
import jax.numpy as jnp

from srum_jax.families.bagel.sampler import Guidance

_EPSILON = 1e-8


def guided_velocity(
    conditional: jax.Array,
    without_text: jax.Array,
    without_images: jax.Array | None,
    real: jax.Array,
    guidance: Guidance,
) -> jax.Array:
    """Combines the predictions of the branches.

    With u = v_text + s_text (v - v_text): "text_channel" holds the norm of each token of u to that of v and then
    applies image guidance; "global" and "channel" apply image guidance first and hold the norm of the whole image, or
    of each token. Norms are never raised, and never lowered below `renorm_min` of what they were.

    Args:
      conditional: v, float32 [B, G, P].
      without_text: v_text, likewise.
      without_images: v_img, likewise; None where the image scale is at most 1.
      real: bool [B, G], False for padding, which enters no norm.
      guidance: scales above 1 for the branches given.

    Returns:
      float32 [B, G, P].
    """

    def renormalise(velocity: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        norms = (jnp.sqrt(jnp.sum(jnp.where(real[..., None], v, 0.0) ** 2, axis=axes, keepdims=True))
                 for v in (conditional, velocity))
        return velocity * jnp.clip(next(norms) / (next(norms) + _EPSILON), guidance.renorm_min, 1.0)

    def image_guided(velocity: jax.Array) -> jax.Array:
        if without_images is None:
            return velocity
        return without_images + guidance.image_scale * (velocity - without_images)

    velocity = without_text + guidance.text_scale * (conditional - without_text)
    if guidance.renorm == "text_channel":
        return image_guided(renormalise(velocity, (-1,)))
    return renormalise(image_guided(velocity), (-1,) if guidance.renorm == "channel" else (-2, -1))
