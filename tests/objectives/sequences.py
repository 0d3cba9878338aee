"""Scores of made-up sequences, laid out in rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores


def text_batch(log_prob, mask, sample, num_samples, **columns):
    """Rows of texts without pictures: token scores, masks, columns."""
    log_prob, mask = jnp.asarray(log_prob, jnp.float32), np.asarray(mask, np.float32)
    nothing = np.zeros((len(log_prob), 0), np.float32)
    masks = TokenMasks(image=nothing.astype(bool), image_sample=nothing.astype(np.int32), text=mask,
                       text_sample=np.where(mask > 0, sample, -1), streams={}, num_samples=num_samples)
    scores = TokenScores(image_error=jnp.asarray(nothing), reference_error=None, time=None, text_log_prob=log_prob)
    return scores, masks, Columns({}, {name: np.asarray(value, np.float32) for name, value in columns.items()})


@functools.partial(jax.jit, static_argnums=0)
def loss_of(objective, scores, masks, columns, totals=None):
    """The loss of a batch, and what is logged."""
    totals = objective_totals(objective, masks, columns) if totals is None else totals
    return objective_loss(objective, scores, masks, columns, totals)
