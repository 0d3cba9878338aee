"""Codes of a picture, one after the other, in one compiled loop (Janus-Pro's guidance).

B pictures · R predictions of each (with its text, and without) · S tokens of a prompt · N codes · K of the codebook
D width of the language model
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.inference.cached_decoder import read
from srum_jax.inference.context import Context, empty_context
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.token_stream import causal_tokens

# Number of the step, from 0, to what is added to the scores of its codes: float32 [B, K].
Noise = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts that end with the token that begins a picture, padded on the left."""

    ids: jax.Array  # int32 [B, S]
    real: jax.Array  # bool [B, S]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DrawnCodes:
    """Codes, and how they came about where that was asked for."""

    codes: jax.Array  # int32 [B, N]
    healthy: jax.Array  # bool [B]: all scores were finite
    hidden: jax.Array | None  # [N, B * R, D] in the compute dtype
    logits: jax.Array | None  # float32 [N, B * R, K]
    guided: jax.Array | None  # float32 [N, B, K], before the temperature


def gumbel_noise(keys: jax.Array, num_codes: int) -> Noise:
    """Noise that makes the largest score a draw from the softmax; a row's follows from its key [B] alone."""

    def noise(step: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), (num_codes,)))(keys)

    return noise


def sample_codes(
    model: JanusPro, prompts: Prompts, noise: Noise, sampler: CodeSampler, compute: ComputeConfig, *,
    with_scores: bool = False,
) -> DrawnCodes:
    """Draws all codes of a picture for every prompt.

    With guidance w, scores are `u + w (c - u)` of the prediction with the text and that without; a row's noise is added
    after guidance and temperature. Both predictions are rows of one batch, side by side.

    Args:
      model: needs no optional part.
      prompts: of any lengths.
      noise: see `Noise`; not called for greedy sampling.
      sampler: guidance and temperature.
      compute: precision and attention route.
      with_scores: whether to keep states and scores, for parity checks.
    """
    rows, width = prompts.ids.shape
    branches, steps = sampler.branches, model.config.vq.num_codes
    ids, real = _branches(model, prompts, branches)
    tokens = causal_tokens(real)
    context = empty_context(model.config.llm, rows * branches, width + steps - 1, compute.compute_dtype)
    hidden, written = read(model.llm, model.llm.embed(ids, compute.compute_dtype), tokens,
                           model.angles(tokens.position), context, compute)
    context = context.append(written, real, jnp.sum(real, axis=1, dtype=jnp.int32))

    def choose(hidden: jax.Array, step: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = model.gen_head(hidden)
        guided = logits
        if branches == 2:
            with_text, without = (logits.reshape(rows, 2, -1)[:, branch] for branch in range(2))
            guided = without + sampler.guidance * (with_text - without)
        scores = guided if sampler.temperature is None else guided / sampler.temperature + noise(step)
        return jnp.argmax(scores, axis=-1).astype(jnp.int32), (logits, guided)

    def step(carry: tuple[jax.Array, Context], number: jax.Array):
        hidden, context = carry
        codes, (logits, guided) = choose(hidden, number)
        x = model.embed_codes(jnp.repeat(codes, branches)[:, None], compute.compute_dtype)
        here = jnp.ones((rows * branches, 1), bool)
        tokens = dataclasses.replace(causal_tokens(here), position=context.next_position[:, None])
        following, written = read(model.llm, x, tokens, model.angles(tokens.position), context, compute)
        longer = context.append(written, here, jnp.ones(rows * branches, jnp.int32))
        kept = (hidden, logits, guided) if with_scores else (None, None, None)
        return (following[:, -1], longer), (codes, jnp.all(jnp.isfinite(guided), axis=-1), *kept)

    # The last code is chosen behind the loop: it is no input of the model.
    (hidden, _), outputs = jax.lax.scan(step, (hidden[:, -1], context), jnp.arange(steps - 1))
    codes, (logits, guided) = choose(hidden, jnp.asarray(steps - 1))
    last = (codes, jnp.all(jnp.isfinite(guided), axis=-1), *((hidden, logits, guided) if with_scores else (None,) * 3))
    codes, healthy, *kept = jax.tree.map(lambda all_but_last, one: jnp.concatenate([all_but_last, one[None]]),
                                         tuple(outputs), last)
    return DrawnCodes(codes.T, jnp.all(healthy, axis=0), *kept)


def _branches(model: JanusPro, prompts: Prompts, branches: int) -> tuple[jax.Array, jax.Array]:
    """Ids and mask [B * R, S]; the second row of each picture says nothing between its first and its last token."""
    if branches == 1:
        return prompts.ids, prompts.real
    place = jnp.cumsum(prompts.real, axis=1)
    inner = (place > 1) & (jnp.arange(prompts.ids.shape[1]) < prompts.ids.shape[1] - 1)[None]
    without = jnp.where(inner, model.config.special_tokens.pad, prompts.ids)

    def interleaved(first: jax.Array, second: jax.Array) -> jax.Array:
        both = jnp.stack([first, second], axis=1)
        return constrain(both.reshape(-1, both.shape[-1]), ROWS)

    return interleaved(prompts.ids, without), interleaved(prompts.real, prompts.real)
