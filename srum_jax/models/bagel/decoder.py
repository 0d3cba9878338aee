"""The language model: a Qwen2 decoder with two experts that share one attention (mixture of transformers).

Text, special tokens and image patches run through the und expert, latent tokens through the gen expert. The two kinds
lie in two buffers from the first layer to the last, so neither expert computes a token of the other.

B rows · U und tokens · G gen tokens · S = U + G · D width · N query heads · K key/value heads · H head width
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.config import LanguageConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import Attention
from srum_jax.models.layers.decoder import DecoderLayer
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Embedding, Linear
from srum_jax.models.layers.logical_axes import ROWS, TOKENS, constrain
from srum_jax.models.layers.norm import RMSNorm
from srum_jax.models.layers.rope import RotaryAngles, rotary_angles
from srum_jax.models.layers.tap import Tap, no_tap

# Called with a name and a value along the unscanned path, for parity checks.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hidden:
    """The residual stream of both kinds of token."""

    und: jax.Array  # [B, U, D]
    gen: jax.Array  # [B, G, D]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotary angles of both kinds of token."""

    und: RotaryAngles
    gen: RotaryAngles

    @classmethod
    def of(cls, position: jax.Array, num_und: int, config: LanguageConfig) -> "Rotary":
        """From rotary positions int32 [B, S], of which the first `num_und` belong to und tokens."""
        angles = rotary_angles(position, config.head_dim, config.rope_theta)
        return cls(jax.tree.map(lambda x: x[:, :num_und], angles), jax.tree.map(lambda x: x[:, num_und:], angles))


class MixtureLayer(nnx.Module):
    """One layer of each expert, or the stacked parameters of all of them."""

    def __init__(self, config: LanguageConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        self.und = DecoderLayer(config, rngs=rngs, stack=stack)
        self.gen = DecoderLayer(config, rngs=rngs, stack=stack)

    def __call__(self, x: Hidden, rotary: Rotary, attention: Attention, tap: Tap = no_tap) -> Hidden:
        """Adds the attention branch, then the MLP branch, each token by its own expert."""
        return self.after_attention(x, attention(*self.attention_inputs(x, rotary)), tap)

    def attention_inputs(self, x: Hidden, rotary: Rotary) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, S, N, H], keys and values [B, S, K, H] of all tokens, und first."""
        und_qkv = self.und.attention_inputs(x.und, rotary.und)
        gen_qkv = self.gen.attention_inputs(x.gen, rotary.gen)
        query, key, value = (jnp.concatenate(pair, axis=1) for pair in zip(und_qkv, gen_qkv, strict=True))
        return query, key, value

    def after_attention(self, x: Hidden, attended: jax.Array, tap: Tap = no_tap) -> Hidden:
        """The rest of the layer, given what all tokens attended to, [B, S, N, H]."""
        num_und = x.und.shape[1]
        branch = Hidden(
            self.und.attention_output(attended[:, :num_und]), self.gen.attention_output(attended[:, num_und:])
        )
        tap("attention_branch", branch)
        x = _constrain(Hidden(x.und + branch.und, x.gen + branch.gen))
        return _constrain(Hidden(x.und + self.und.mlp(x.und), x.gen + self.gen.mlp(x.gen)))


class Decoder(nnx.Module):
    """Embedding, layers, final norms and output head."""

    def __init__(self, config: LanguageConfig, *, rngs: nnx.Rngs):
        self.embed = Embedding(config.vocab_size, config.hidden_size, rngs=rngs, axes=("vocab_in", "embed_out"))
        self.layers = MixtureLayer(config, rngs=rngs, stack=(config.num_layers,))
        self.und_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, rngs=rngs)
        self.gen_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, rngs=rngs)
        self.lm_head = Linear(
            config.hidden_size, config.vocab_size, rngs=rngs, axes=("embed_in", "vocab_out"), use_bias=False,
        )
        self.config = config

    def __call__(
        self, x: Hidden, rotary: Rotary, attention: Attention, compute: ComputeConfig, tap: Tap = no_tap
    ) -> Hidden:
        """Runs all layers and the final norms.

        Args:
          x: inputs of both kinds of token, in the compute dtype.
          rotary: their rotary angles.
          attention: over the concatenation of und and gen tokens.
          compute: remat policy, and whether to scan.
          tap: called with "attention_branch" and "layer" after each layer; needs an unscanned,
            unrematerialised model.
        """
        x = run_layers(
            self.layers, lambda layer, x: layer(x, rotary, attention, tap), _constrain(x),
            num_layers=self.config.num_layers, compute=compute,
            after_each=None if tap is no_tap else functools.partial(tap, "layer"),
        )
        return Hidden(self.und_norm(x.und), self.gen_norm(x.gen))


def _constrain(x: Hidden) -> Hidden:
    return jax.tree.map(lambda leaf: constrain(leaf, ROWS, TOKENS), x)
