"""The reward-weighted flow-matching objective (SRUM, arXiv 2510.12784, section 3.3).

    L = mean(alpha * R * (v - (eps - x0))^2) + lambda_c * mean((v - (eps - x0_ref))^2)

`alpha` is one weight per image from its global score, `R` one value per latent token from the scores of regions,
`x0_ref` the reference image (in the published recipes the same image under another draw of the autoencoder's
posterior). Means run over every value of every noisy latent token of the global batch. For models that predict codes,
minus the log probability of a token's code stands in the place of its squared error; where there is no other draw of
the picture, the picture itself is its reference.

Named settings, all of this one objective:

    SRUM            reward 1, reference lambda_c = 0.5
    no reference    reward 1, reference 0
    plain SFT       reward 0, reference 1
    no global       SRUM with reward_map.use_global False: alpha = 1
    sparse          SRUM with reward_map.binarize "region": scores become 1 or 0
"""

import jax
import jax.numpy as jnp

from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from srum_jax.objectives.weighted_sum import WeightedSum


def totals(settings: RewardWeighted, masks: TokenMasks, columns: Columns) -> dict[str, jax.Array]:
    """Image tokens and predicted texts, the denominators of the means; float32 [] each."""
    del columns
    return {"image": jnp.sum(masks.image, dtype=jnp.float32), "text": jnp.sum(_text_weights(settings, masks))}


def share_of_loss(
    settings: RewardWeighted, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: dict[str, jax.Array]
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `objective_loss`."""
    alpha, reward_map = columns.image["alpha"], columns.image["reward_map"]
    weight = reward_weight(settings, alpha, reward_map)
    towards_reference = scores.image_error if scores.reference_error is None else scores.reference_error
    reward = WeightedSum.of(weight * scores.image_error, masks.image)
    reference = WeightedSum.of(towards_reference, masks.image)
    text = WeightedSum.of(-scores.text_log_prob, _text_weights(settings, masks))
    loss = (
        reward.total / jnp.maximum(totals["image"], 1.0)
        + settings.reference_coefficient * reference.total / jnp.maximum(totals["image"], 1.0)
        + settings.text_coefficient * text.total / jnp.where(totals["text"] > 0, totals["text"], 1.0)
    )
    low, high = settings.reward_map.limits
    statistics = {
        "alpha_mean": alpha,
        "map_mean": reward_map,
        "map_square": jnp.square(reward_map),
        "share_at_low": reward_map <= low,
        "share_at_high": reward_map >= high,
        "share_negative_factor": weight + settings.reference_coefficient < 0,
    }
    logged = {"loss/reward": reward, "loss/reference": reference, "loss/text": text}
    return loss, logged | {f"reward/{name}": WeightedSum.of(value, masks.image) for name, value in statistics.items()}


def reward_weight(settings: RewardWeighted, alpha: jax.Array, reward_map: jax.Array) -> jax.Array:
    """The factor of each token's error in the reward term, float32 [B, C].

    `alpha * R`, raised where needed so that the sum of both terms' factors keeps `factor_floor`. A factor below minus
    lambda_c makes the loss unbounded below; the paper does not discuss it.

    Args:
      settings: of the objective.
      alpha: weight of the image each token belongs to [B, C].
      reward_map: R of each token [B, C].
    """
    weight = settings.reward_coefficient * alpha.astype(jnp.float32) * reward_map.astype(jnp.float32)
    if settings.factor_floor is not None:
        weight = jnp.maximum(weight, settings.factor_floor - settings.reference_coefficient)
    return weight


def _text_weights(settings: RewardWeighted, masks: TokenMasks) -> jax.Array:
    return masks.text if settings.reweight_text else (masks.text > 0).astype(jnp.float32)
