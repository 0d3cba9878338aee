"""The reward-weighted flow-matching objective (SRUM, arXiv 2510.12784, section 3.3).

    L = mean(alpha * R * (v - (eps - x0))^2) + lambda_c * mean((v - (eps - x0_ref))^2)

`alpha` is one weight per image from its global score, `R` one value per latent token from the scores of regions,
`x0_ref` the reference image (in the published recipes the same image under another draw of the autoencoder's
posterior). Means run over every value of every noisy latent token of the global batch.

Named settings, all of this one objective:

    SRUM            reward 1, reference lambda_c = 0.5
    no reference    reward 1, reference 0
    plain SFT       reward 0, reference 1
    no global       the same, with alpha = 1 from the reward map's settings
    sparse          the same, with scores binarised by the reward map's settings
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.objectives.config import ObjectiveConfig
from srum_jax.objectives.flow_path import velocity_target
from srum_jax.objectives.weighted_sum import WeightedSum


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenErrors:
    """Squared velocity errors, averaged over the values of each token. float32 [B, C]."""

    image: jax.Array  # towards the training image
    reference: jax.Array  # towards the reference image


def velocity_errors(
    velocity: jax.Array, latent: jax.Array, reference_latent: jax.Array, noise: jax.Array
) -> TokenErrors:
    """Squared errors of the velocity, one value per token, in float32.

    Args:
      velocity, latent, reference_latent, noise: [B, C, P].
    """
    velocity = velocity.astype(jnp.float32)
    return TokenErrors(
        image=jnp.mean(jnp.square(velocity - velocity_target(latent, noise)), axis=-1),
        reference=jnp.mean(jnp.square(velocity - velocity_target(reference_latent, noise)), axis=-1),
    )


def reward_weight(alpha: jax.Array, reward_map: jax.Array, config: ObjectiveConfig) -> jax.Array:
    """The factor of each token's error in the reward term, float32 [B, C].

    `alpha * R`, raised where needed so that the sum of both terms' factors keeps `config.factor_floor`. A factor
    below minus lambda_c makes the loss unbounded below; the paper does not discuss it.
    """
    weight = config.reward_coefficient * alpha.astype(jnp.float32) * reward_map.astype(jnp.float32)
    if config.factor_floor is not None:
        weight = jnp.maximum(weight, config.factor_floor - config.reference_coefficient)
    return weight


def reward_weighted_terms(
    errors: TokenErrors, alpha: jax.Array, reward_map: jax.Array, mask: jax.Array, config: ObjectiveConfig
) -> tuple[WeightedSum, WeightedSum]:
    """The reward term and the reference term (without its lambda_c), each as a sum and its number of tokens.

    Args:
      errors: per-token errors [B, C].
      alpha: weight of the image each token belongs to [B, C].
      reward_map: R of each token [B, C].
      mask: bool [B, C], tokens that count.
      config: coefficients.
    """
    weight = reward_weight(alpha, reward_map, config)
    return WeightedSum.of(weight * errors.image, mask), WeightedSum.of(errors.reference, mask)
