"""Text that BAGEL writes, token by token."""

import jax

from srum_jax.families.bagel.cached_decoder import causal_tokens, make_reader
from srum_jax.inference.context import Context
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText, Decoding, NextLogits, begin_text, decode_text, go_on
from srum_jax.models.bagel.decoder import Hidden
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig


def write_text(
    model: Bagel,
    compute: ComputeConfig,
    context: Context,
    keys: jax.Array,
    active: jax.Array,
    sampler: TextSampler,
    with_logits: bool = False,
) -> DecodedText:
    """Continues every row with a text; the context is not changed.

    Args:
      model: its language model is used.
      compute: precision and attention route.
      context: what the texts follow on.
      keys, active, sampler: see `decode_text`.
      with_logits: whether to keep all logits.
    """
    special = model.config.special_tokens
    return decode_text(_continuation(model, compute), context.with_room(sampler.max_tokens), keys, active, sampler,
                       start=special.bos, end=special.eos,
                       vocab_size=model.config.llm.vocab_size if with_logits else None)


def begin_writing(
    model: Bagel, compute: ComputeConfig, context: Context, active: jax.Array, sampler: TextSampler
) -> Decoding:
    """Texts to be written by `write_on`; see `write_text`."""
    return begin_text(context.with_room(sampler.max_tokens), active, sampler, start=model.config.special_tokens.bos)


def write_on(
    model: Bagel, compute: ComputeConfig, begun: Decoding, keys: jax.Array, until: jax.Array, sampler: TextSampler
) -> Decoding:
    """The same texts, with so many tokens fed; see `go_on`."""
    return go_on(_continuation(model, compute), begun, keys, until, sampler, end=model.config.special_tokens.eos)


def _continuation(model: Bagel, compute: ComputeConfig) -> NextLogits:
    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        query = causal_tokens(count, 1, context.next_position)
        und = model.llm.embed(token[:, None], compute.compute_dtype)
        hidden, written, _ = make_reader(model.llm, query, 1, context, compute)(Hidden(und, und[:, :0]))
        return model.llm.lm_head(hidden.und)[:, 0], context.append(written, query.real, count)

    return next_logits
