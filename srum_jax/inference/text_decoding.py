"""Text, token by token, in one compiled loop, or in several that go on from each other.

B rows · N tokens fed at most · V vocabulary
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.errors import Failure
from srum_jax.inference.settings import TextSampler

# (what is known so far, token int32 [B], count int32 [B]) -> logits [B, V] of the token after it, what is known then.
# A row whose count is 0 is fed nothing: it stays as it is.
NextLogits = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodedText:
    """What was fed; a row's text ends before the end marker, which is no part of it."""

    token_ids: jax.Array  # int32 [B, N], from the starting marker on; 0 after a row's end
    num_tokens: jax.Array  # int32 [B], the starting marker included
    finished: jax.Array  # bool [B]: the end marker was predicted; otherwise the limit was reached
    healthy: jax.Array  # bool [B]: all logits were finite
    logits: jax.Array | None  # float32 [B, N, V], if they were asked for; row k predicts token k + 1

    def ids_of(self, row: int) -> list[int]:
        """A row's text without its starting marker."""
        return self.token_ids[row, 1 : self.num_tokens[row]].tolist()

    def check_finite(self) -> None:
        """Raises Failure where the logits of a row were not numbers."""
        if not self.healthy.all():
            rows = np.flatnonzero(~self.healthy).tolist()
            raise Failure(f"The predicted logits of rows {rows} are not finite: expected numbers; the weights "
                                 "are damaged, or do not fit the dtype (try float32).")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decoding:
    """Texts that are being written."""

    step: jax.Array  # int32 []: tokens fed so far
    context: Any
    token: jax.Array  # int32 [B], to be fed next
    text: DecodedText


def decode_text(
    next_logits: NextLogits,
    context: Any,
    keys: jax.Array,
    active: jax.Array,
    sampler: TextSampler,
    *,
    start: int,
    end: int,
    vocab_size: int | None = None,
) -> DecodedText:
    """Continues every row with a text, until its end marker or the limit; stops when all rows have.

    Args:
      next_logits: the language model.
      context: what the texts follow on, a pytree; with room for N more tokens.
      keys: [B] random keys, one per row; step s draws with `fold_in(key, s)`.
      active: bool [B], False for rows that are padding of the batch.
      sampler: greedy or with a temperature; the limit N.
      start: token that is fed first.
      end: token that ends a text.
      vocab_size: V, to keep all logits, for parity checks; None: they are not kept.
    """
    begun = begin_text(context, active, sampler, start=start, vocab_size=vocab_size)
    return go_on(next_logits, begun, keys, sampler.max_tokens, sampler, end=end).text


def begin_text(
    context: Any, active: jax.Array, sampler: TextSampler, *, start: int, vocab_size: int | None = None
) -> Decoding:
    """Texts of which nothing is written; arguments as for `decode_text`."""
    rows, limit = active.shape[0], sampler.max_tokens
    return Decoding(
        step=jnp.zeros((), jnp.int32),
        context=context,
        token=jnp.full(rows, start, jnp.int32),
        text=DecodedText(
            token_ids=jnp.zeros((rows, limit), jnp.int32),
            num_tokens=jnp.zeros(rows, jnp.int32),
            finished=~active,
            healthy=jnp.ones(rows, bool),
            logits=None if vocab_size is None else jnp.zeros((rows, limit, vocab_size), jnp.float32),
        ),
    )


def go_on(
    next_logits: NextLogits, begun: Decoding, keys: jax.Array, until: int | jax.Array, sampler: TextSampler, *, end: int
) -> Decoding:
    """Writes on until so many tokens were fed, int32 [], or all texts have ended; other arguments as for `decode_text`.

    What is written does not depend on where it was interrupted.
    """

    def not_done(loop: Decoding) -> jax.Array:
        return (loop.step < until) & ~jnp.all(loop.text.finished)

    def feed(loop: Decoding) -> Decoding:
        fed = ~loop.text.finished
        count = fed.astype(jnp.int32)
        logits, longer = next_logits(loop.context, loop.token, count)
        logits = logits.astype(jnp.float32)
        if sampler.temperature is None:
            chosen = jnp.argmax(logits, axis=-1)
        else:
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, loop.step)
            chosen = jax.vmap(jax.random.categorical)(step_keys, logits / sampler.temperature)
        chosen = chosen.astype(jnp.int32)
        text = DecodedText(
            token_ids=loop.text.token_ids.at[:, loop.step].set(jnp.where(fed, loop.token, 0)),
            num_tokens=loop.text.num_tokens + count,
            finished=loop.text.finished | (chosen == end),
            healthy=loop.text.healthy & (jnp.all(jnp.isfinite(logits), axis=-1) | ~fed),
            logits=None if loop.text.logits is None else loop.text.logits.at[:, loop.step].set(logits),
        )
        return Decoding(loop.step + 1, longer, chosen, text)

    return jax.lax.while_loop(not_done, feed, begun)
