"""How likely BAGEL makes a text, and how well its flow leads to a picture, on top of a context.

B rows · T tokens of a text · G latent tokens · P values of a token · K times
"""

import jax
import jax.numpy as jnp

from srum_jax.families.bagel.flow_sampling import LatentLayout, flow_velocity
from srum_jax.families.bagel.image_codec import initial_noise
from srum_jax.families.bagel.prefill import text_chunk
from srum_jax.families.bagel.sampler import Guidance
from srum_jax.inference.context import Context
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.flow_path import interpolate, velocity_error
from srum_jax.rewards.dual_likelihood import token_log_probs

_TOKENS_AT_ONCE = 16  # the logits of a whole text may be gigabytes
UNGUIDED = Guidance(text_scale=1.0)


def text_log_probs(
    model: Bagel, compute: ComputeConfig, context: Context, token_ids: jax.Array, num_tokens: jax.Array
) -> jax.Array:
    """Log probability of each token after the first, float32 [B, T]: place k has that of token k + 1.

    Args:
      model: its language model is used.
      compute: precision and attention route.
      context: what the texts follow on.
      token_ids: int32 [B, T], the starting marker included; padded at the end. The last place has no meaning.
      num_tokens: int32 [B].
    """
    _, hidden, _ = text_chunk(model, compute, context, token_ids, num_tokens).added(model, context, compute)
    labels = jnp.roll(token_ids, -1, axis=1)

    def one_place(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        state, label = inputs  # [B, D], [B]
        return token_log_probs(model.llm.lm_head(state)[:, None], label[:, None])[:, 0]

    by_place = (jnp.moveaxis(hidden.und, 1, 0), labels.T)
    return jax.lax.map(one_place, by_place, batch_size=min(_TOKENS_AT_ONCE, token_ids.shape[1])).T


def noised(
    model: Bagel, latent: jax.Array, keys: jax.Array, number: jax.Array, t: jax.Array, layout: LatentLayout
) -> tuple[jax.Array, jax.Array]:
    """Pictures on the path at times t [B], zero in padding, and the noise, of `fold_in(key, number)`; [B, G, P]."""
    noise = initial_noise(jax.vmap(jax.random.fold_in, (0, None))(keys, number), latent.shape[1], model.config)
    noisy = interpolate(latent, noise, jnp.broadcast_to(t[:, None], latent.shape[:2]))
    return jnp.where(layout.real[..., None], noisy, 0.0), noise


def flow_errors(
    model: Bagel,
    compute: ComputeConfig,
    context: Context,
    latent: jax.Array,
    keys: jax.Array,
    times: jax.Array,
    layout: LatentLayout,
) -> jax.Array:
    """Mean squared velocity error of each picture at each time, without guidance; float32 [B, K].

    Args:
      model: any.
      compute: precision and attention route.
      context: what the pictures follow on.
      latent: float32 [B, G, P].
      keys: [B]; time k is looked at under the noise of `fold_in(key, k)`.
      times: float32 [B, K].
      layout: of the latent tokens.
    """
    velocity = flow_velocity(model, [context], layout, UNGUIDED, compute)
    tokens = layout.real.astype(jnp.float32)

    def one_time(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        number, t = inputs  # [], [B]
        noisy, noise = noised(model, latent, keys, number, t, layout)
        error = velocity_error(velocity(noisy, t)[0], latent, noise)
        return jnp.sum(error * tokens, axis=1) / jnp.maximum(jnp.sum(tokens, axis=1), 1.0)

    return jax.lax.map(one_time, (jnp.arange(times.shape[1]), times.T)).T
