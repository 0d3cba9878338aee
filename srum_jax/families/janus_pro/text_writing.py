"""Text behind a context, token by token."""

import dataclasses

import jax

from srum_jax.inference.cached_decoder import read
from srum_jax.inference.context import Context
from srum_jax.inference.text_decoding import NextLogits
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.layers.token_stream import causal_tokens


def text_continuation(model: JanusPro, compute: ComputeConfig) -> NextLogits:
    """For `decode_text`: feeds a token to every row and scores the next."""

    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        real = count[:, None] > 0
        tokens = dataclasses.replace(causal_tokens(real), position=context.next_position[:, None])
        x = model.llm.embed(token[:, None], compute.compute_dtype)
        hidden, written = read(model.llm, x, tokens, model.angles(tokens.position), context, compute)
        return model.llm.logits(hidden[:, 0]), context.append(written, real, count)

    return next_logits
