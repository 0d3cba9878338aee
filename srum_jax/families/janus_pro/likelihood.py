"""Both likelihoods of Janus-Pro: of a picture's codes behind a prompt, and of an answer behind a picture.

B rows · S tokens of a prompt · N codes · L tokens of a conversation · A predicted ones · k pictures
"""

import jax
import jax.numpy as jnp

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.token_stream import causal_tokens
from srum_jax.rewards.dual_likelihood import token_log_probs


def code_log_probs(
    model: JanusPro, ids: jax.Array, real: jax.Array, codes: jax.Array, compute: ComputeConfig, tap: Tap = no_tap
) -> jax.Array:
    """Log probability of each code, given the prompt and the codes before it; float32 [B, N], without guidance.

    Args:
      model: any.
      ids: int32 [B, S], prompts that end with the token that begins a picture, padded before.
      real: bool [B, S].
      codes: int32 [B, N]; the last one is no input.
      compute: precision, attention route, remat.
      tap: see `JanusPro.hidden`; also called with "code_logits" float32 [B, N, K], over the codebook.
    """
    x = jnp.concatenate([model.llm.embed(ids, compute.compute_dtype),
                         model.embed_codes(codes[:, :-1], compute.compute_dtype)], axis=1)
    taken = jnp.broadcast_to(real[:, -1:], codes[:, :-1].shape)
    hidden = model.hidden(x, causal_tokens(jnp.concatenate([real, taken], axis=1)), compute, tap)
    logits = model.gen_head(hidden[:, ids.shape[1] - 1 :])
    tap("code_logits", logits)
    return token_log_probs(logits, codes)


def answer_log_probs(
    model: JanusPro, ids: jax.Array, real: jax.Array, pictures: jax.Array | None, places: jax.Array,
    answers: jax.Array, compute: ComputeConfig,
) -> jax.Array:
    """Log probability of each predicted token, float32 [B, A].

    Args:
      model: with its vision tower, if there are pictures.
      ids: int32 [B, L].
      real: bool [B, L].
      pictures: see `JanusPro.embed_conversation`.
      places: int32 [B, A], whose next token is predicted.
      answers: int32 [B, A], the tokens that are.
      compute: precision, attention route, remat.
    """
    hidden = model.hidden(model.embed_conversation(ids, pictures, compute), causal_tokens(real), compute)
    return token_log_probs(model.llm.logits(jnp.take_along_axis(hidden, places[..., None], axis=1)), answers)
