"""Text that BAGEL writes, token by token."""

import jax

from srum_jax.families.bagel.cached_decoder import causal_tokens, make_reader
from srum_jax.inference.context import Context
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText, decode_text
from srum_jax.models.bagel.decoder import Hidden
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig


def write_text(
    model: Bagel,
    context: Context,
    keys: jax.Array,
    active: jax.Array,
    sampler: TextSampler,
    compute: ComputeConfig,
    with_logits: bool = False,
) -> DecodedText:
    """Continues every row with a text; the context is not changed.

    Args:
      model: its language model is used.
      context: what the texts follow on.
      keys, active, sampler, with_logits: see `decode_text`.
      compute: precision and attention route.
    """
    special = model.config.special_tokens

    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        query = causal_tokens(count, 1, context.next_position)
        und = model.llm.embed(token[:, None], compute.compute_dtype)
        hidden, written, _ = make_reader(model.llm, query, 1, context, compute)(Hidden(und, und[:, :0]))
        return model.llm.lm_head(hidden.und)[:, 0], context.append(written, query.real, count)

    return decode_text(next_logits, context.with_room(sampler.max_tokens), keys, active, sampler,
                       start=special.bos, end=special.eos, vocab_size=model.config.llm.vocab_size,
                       with_logits=with_logits)
