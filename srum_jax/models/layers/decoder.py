"""A pre-norm decoder of the Qwen2 and Llama kind: grouped-query attention, rotary positions, a gated MLP.

B rows · S tokens · D width · N query heads · K key/value heads · H head width
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.decoder_config import DecoderConfig
from srum_jax.models.layers.attention import Attention
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Embedding, Linear
from srum_jax.models.layers.logical_axes import ROWS, TOKENS, constrain
from srum_jax.models.layers.norm import RMSNorm
from srum_jax.models.layers.rope import RotaryAngles, rotate
from srum_jax.models.layers.tap import Tap, no_tap


class DecoderLayer(nnx.Module):
    """One layer, or the stacked parameters of all layers: norms, projections and gated MLP."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        def linear(features: tuple[int, int], axes: tuple[str, str], use_bias: bool = False) -> Linear:
            return Linear(*features, rngs=rngs, axes=axes, use_bias=use_bias, stack=stack)

        def norm(features: int) -> RMSNorm:
            return RMSNorm(features, config.rms_norm_eps, rngs=rngs, stack=stack)

        width, hidden = config.hidden_size, config.intermediate_size
        query_width, key_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.input_norm = norm(width)
        self.query = linear((width, query_width), ("embed_in", "heads_out"), config.qkv_bias)
        self.key = linear((width, key_width), ("embed_in", "heads_out"), config.qkv_bias)
        self.value = linear((width, key_width), ("embed_in", "heads_out"), config.qkv_bias)
        self.query_norm = norm(config.head_dim) if config.qk_norm else None
        self.key_norm = norm(config.head_dim) if config.qk_norm else None
        self.out = linear((query_width, width), ("heads_in", "embed_out"))
        self.mlp_norm = norm(width)
        self.gate = linear((width, hidden), ("embed_in", "mlp_out"))
        self.up = linear((width, hidden), ("embed_in", "mlp_out"))
        self.down = linear((hidden, width), ("mlp_in", "embed_out"))
        self.head_dim = config.head_dim

    def __call__(self, x: jax.Array, rotary: RotaryAngles, attention: Attention) -> jax.Array:
        """Adds the attention branch, then the MLP branch, to [B, S, D]."""
        return self.after_attention(x, attention(*self.attention_inputs(x, rotary)))

    def attention_inputs(self, x: jax.Array, rotary: RotaryAngles) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[B, S, D] to queries [B, S, N, H], keys and values [B, S, K, H]."""
        normed = self.input_norm(x)
        query, key, value = (self._heads(projection(normed)) for projection in (self.query, self.key, self.value))
        if self.query_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        return rotate(query, rotary), rotate(key, rotary), value

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], x.shape[-1] // self.head_dim, self.head_dim)

    def after_attention(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """The rest of the layer, given the stream [B, S, D] and what its tokens attended to, [B, S, N, H]."""
        x = constrain(x + self.attention_output(attended), ROWS, TOKENS)
        return constrain(x + self.mlp(x), ROWS, TOKENS)

    def attention_output(self, attended: jax.Array) -> jax.Array:
        """[B, S, N, H] to the attention branch [B, S, D]."""
        return self.out(attended.reshape(*attended.shape[:-2], attended.shape[-2] * attended.shape[-1]))

    def mlp(self, x: jax.Array) -> jax.Array:
        """The MLP branch, [B, S, D] to [B, S, D]."""
        gate, up = self.gate_and_up(x)
        return self.down(gate * up)

    def gate_and_up(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, D] to the values of the MLP's neurons after their activation function, and what they gate."""
        normed = self.mlp_norm(x)
        return jax.nn.silu(self.gate(normed)), self.up(normed)


class Decoder(nnx.Module):
    """Embedding, layers, final norm and output head."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, tied: bool = False):
        """Makes the parameters.

        Args:
          config: sizes.
          rngs: source of random numbers.
          tied: the output head is the embedding, transposed, and has no parameters of its own.
        """
        self.embed = Embedding(config.vocab_size, config.hidden_size, rngs=rngs, axes=("vocab_in", "embed_out"))
        self.layers = DecoderLayer(config, rngs=rngs, stack=(config.num_layers,))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, rngs=rngs)
        self.lm_head = None if tied else Linear(
            config.hidden_size, config.vocab_size, rngs=rngs, axes=("embed_in", "vocab_out"), use_bias=False,
        )
        self.config = config

    def __call__(
        self,
        x: jax.Array,
        rotary: RotaryAngles,
        attention: Attention,
        compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """Runs all layers and the final norm.

        Args:
          x: inputs [B, S, D] in the compute dtype.
          rotary: angles of the tokens; from `rotary_angles`, or any others (M-RoPE) of the same shape.
          attention: over the tokens, see `make_attention`.
          compute: remat policy, and whether to scan.
          tap: called with "layer" after each layer; needs an unscanned, unrematerialised model.
        """
        x = run_layers(
            self.layers, lambda layer, x: layer(x, rotary, attention), constrain(x, ROWS, TOKENS),
            num_layers=self.config.num_layers, compute=compute,
            after_each=None if tap is no_tap else functools.partial(tap, "layer"),
        )
        return self.norm(x)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores of every token of the vocabulary, from what `__call__` returns: [..., D] to float32 [..., V]."""
        if self.lm_head is not None:
            return self.lm_head(hidden).astype(jnp.float32)
        table = self.embed.embedding[...].astype(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table).astype(jnp.float32)
