"""What training asks of a model, whatever it is: an error for each image token, a log probability for each text token.

B rows · C image tokens of a row · T predicted text tokens of a row
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.objectives.weighted_sum import WeightedSum

Array = jax.Array | np.ndarray

_TIME_BINS = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Scores of a batch, float32. Those of tokens that do not count may be anything."""

    image_error: jax.Array  # [B, C] mean squared error of the velocity, or minus the log probability of a code
    reference_error: jax.Array | None  # [B, C] the same towards another draw of the picture's code; None: no draw
    time: jax.Array | None  # [B, C] of the flow path, 0 data and 1 noise; None where there is no path
    text_log_prob: jax.Array  # [B, T]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenMasks:
    """Which tokens count, and whose they are. A function of the batch alone: a step's denominators precede it."""

    image: Array  # bool [B, C]
    image_sample: Array  # int32 [B, C] sample of the row that a token belongs to; -1 for padding
    text: Array  # float32 [B, T] weights, 1 / sqrt(predicted tokens of the text); 0 for padding
    text_sample: Array  # int32 [B, T]
    streams: dict[str, Array]  # bool [B, ...] real tokens of each buffer, for the counts that are logged
    num_samples: int = dataclasses.field(metadata={"static": True})  # slots of a row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Columns:
    """Named numbers beside the tokens of a batch. The objective computes them; a family only carries them."""

    image: dict[str, Array]  # float32 [B, C] each
    text: dict[str, Array]  # float32 [B, T] each


@dataclasses.dataclass(frozen=True)
class Stream:
    """Image tokens or text tokens of a batch, for objectives that treat them alike; L of them in a row."""

    log_prob: jax.Array | None  # float32 [B, L]; None where only what precedes a step is known
    mask: Array  # bool [B, L]
    sample: Array  # int32 [B, L]
    columns: dict[str, Array]  # float32 [B, L] each
    num_samples: int  # slots of a row


def streams_of(scores: TokenScores | None, masks: TokenMasks, columns: Columns) -> dict[str, Stream]:
    """The streams that bring columns, by name. An image token's log probability is minus its error."""
    image, text = (None, None) if scores is None else (-scores.image_error, scores.text_log_prob)
    streams = {
        "image": Stream(image, jnp.asarray(masks.image), masks.image_sample, columns.image, masks.num_samples),
        "text": Stream(text, jnp.asarray(masks.text) > 0, masks.text_sample, columns.text, masks.num_samples),
    }
    return {name: stream for name, stream in streams.items() if stream.columns}


def membership(stream: Stream) -> jax.Array:
    """Which tokens belong to which sample, bool [B, L, samples]."""
    samples = jnp.arange(stream.num_samples)
    return stream.mask[..., None] & (jnp.asarray(stream.sample)[..., None] == samples[None, None])


def sample_means(values: jax.Array, members: jax.Array) -> jax.Array:
    """Means over the tokens that belong together, float32 [B, ...]; 0 where there are none.

    Args:
      values: [B, L]; those of tokens that belong nowhere may be anything.
      members: bool [B, L, ...].
    """
    values = values.astype(jnp.float32).reshape(*values.shape, *(1,) * (members.ndim - 2))
    count = jnp.sum(members, axis=1, dtype=jnp.float32)
    return jnp.sum(jnp.where(members, values, 0.0), axis=1) / jnp.maximum(count, 1.0)


def error_by_time(scores: TokenScores, masks: TokenMasks, chosen: Array | None = None) -> dict[str, WeightedSum]:
    """The plain error in each quarter of the time, of all tokens or of those in `chosen`, bool [B, C]; nothing for
    models without a path."""
    if scores.time is None:
        return {}
    quarter = jnp.clip(jnp.floor(scores.time * _TIME_BINS), 0, _TIME_BINS - 1)
    counted = masks.image if chosen is None else masks.image & chosen
    return {f"loss_by_time/q{i}": WeightedSum.of(scores.image_error, counted & (quarter == i))
            for i in range(_TIME_BINS)}


def token_counts(masks: TokenMasks) -> dict[str, WeightedSum]:
    """Real tokens of each buffer over all its slots, and padding over the slots of all buffers."""
    counts = {f"tokens/{name}": WeightedSum.of(real, jnp.ones_like(real)) for name, real in masks.streams.items()}
    padding = [WeightedSum.of(~real, jnp.ones_like(real)) for real in masks.streams.values()]
    return counts | {"tokens/padding": sum(padding[1:], start=padding[0])}
