"""Text, token by token, in one compiled loop.

B rows · N tokens fed at most · V vocabulary
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.families.bagel.cached_decoder import causal_tokens, make_reader
from srum_jax.inference.context import Context
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.decoder import Hidden
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodedText:
    """What was fed; a row's text ends before the end marker, which is no part of it."""

    token_ids: jax.Array  # int32 [B, N], from the starting marker on; 0 after a row's end
    num_tokens: jax.Array  # int32 [B], the starting marker included
    finished: jax.Array  # bool [B]: the end marker was predicted; otherwise the limit was reached
    healthy: jax.Array  # bool [B]: all logits were finite
    logits: jax.Array | None  # float32 [B, N, V], if they were asked for; row k predicts token k + 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
    step: jax.Array
    context: Context
    token: jax.Array  # int32 [B], to be fed next
    text: DecodedText


def decode_text(
    model: Bagel,
    context: Context,
    keys: jax.Array,
    active: jax.Array,
    sampler: TextSampler,
    compute: ComputeConfig,
    with_logits: bool = False,
) -> DecodedText:
    """Continues every row with a text, until its end marker or the limit; stops when all rows have.

    Args:
      model: its language model is used.
      context: what the texts follow on. It is not changed.
      keys: [B] random keys, one per row; step s draws with `fold_in(key, s)`.
      active: bool [B], False for rows that are padding of the batch.
      sampler: greedy or with a temperature; the limit N.
      compute: precision and attention route.
      with_logits: whether to keep all logits, for parity checks.
    """
    rows, limit = keys.shape[0], sampler.max_tokens
    special, vocabulary = model.config.special_tokens, model.config.llm.vocab_size

    def not_done(loop: _Loop) -> jax.Array:
        return (loop.step < limit) & ~jnp.all(loop.text.finished)

    def feed(loop: _Loop) -> _Loop:
        fed = ~loop.text.finished
        count = fed.astype(jnp.int32)
        query = causal_tokens(count, 1, loop.context.next_position)
        und = model.llm.embed(loop.token[:, None], compute.compute_dtype)
        hidden, written = make_reader(model.llm, query, 1, loop.context, compute)(Hidden(und, und[:, :0]))
        logits = model.llm.lm_head(hidden.und)[:, 0].astype(jnp.float32)
        if sampler.temperature is None:
            chosen = jnp.argmax(logits, axis=-1)
        else:
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, loop.step)
            chosen = jax.vmap(jax.random.categorical)(step_keys, logits / sampler.temperature)
        chosen = chosen.astype(jnp.int32)
        text = DecodedText(
            token_ids=loop.text.token_ids.at[:, loop.step].set(jnp.where(fed, loop.token, 0)),
            num_tokens=loop.text.num_tokens + count,
            finished=loop.text.finished | (chosen == special.eos),
            healthy=loop.text.healthy & (jnp.all(jnp.isfinite(logits), axis=-1) | ~fed),
            logits=loop.text.logits.at[:, loop.step].set(logits) if with_logits else None,
        )
        return _Loop(loop.step + 1, loop.context.append(written, query.real, count), chosen, text)

    start = _Loop(
        step=jnp.zeros((), jnp.int32),
        context=context.with_room(limit),
        token=jnp.full(rows, special.bos, jnp.int32),
        text=DecodedText(
            token_ids=jnp.zeros((rows, limit), jnp.int32),
            num_tokens=jnp.zeros(rows, jnp.int32),
            finished=~active,
            healthy=jnp.ones(rows, bool),
            logits=jnp.zeros((rows, limit, vocabulary), jnp.float32) if with_logits else None,
        ),
    )
    return jax.lax.while_loop(not_done, feed, start).text
