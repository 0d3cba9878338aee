"""BAGEL: one network that understands and generates images.

B rows · M images in a row · Ct, Cv, Cg capacities of the text, vit and latent buffers · P values of a latent token
D width
"""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.decoder import Decoder, Hidden, Rotary
from srum_jax.models.bagel.vae import Autoencoder
from srum_jax.models.bagel.vision import Connector, VisionTower
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.parameter import FixedTable
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.timestep_embedding import timestep_features
from srum_jax.models.layers.token_stream import TokenStream, concatenate

_TIME_FEATURES = 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingOutput:
    """What the losses need."""

    velocity: jax.Array  # [B, Cg, P], compute dtype
    text_logits: jax.Array | None  # [B, Cc, vocabulary], float32; None where no text is to be predicted


class TimeEmbedder(nnx.Module):
    """Sinusoidal features of the time through two linear maps."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.fc1 = Linear(_TIME_FEATURES, width, rngs=rngs)
        self.fc2 = Linear(width, width, rngs=rngs)

    def __call__(self, timestep: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Times float32 [...] to [..., D] in `dtype`."""
        return self.fc2(jax.nn.silu(self.fc1(timestep_features(timestep, _TIME_FEATURES).astype(dtype))))


class PositionTable(nnx.Module):
    """A fixed sine/cosine table over a square grid."""

    def __init__(self, side: int, width: int):
        self.table = FixedTable(jnp.asarray(sincos_table(width, side)), axes=("small_in", "small_out"))

    def __call__(self, rows: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Rows int32 [...] to [..., width] in `dtype`."""
        return jnp.take(self.table[...].astype(dtype), rows, axis=0)


class Bagel(nnx.Module):
    """The whole model. Without vision tower it only generates; without autoencoder it works on given latents."""

    def __init__(self, config: BagelConfig, *, rngs: nnx.Rngs, parts: Collection[str] = ("vit", "vae")):
        width = config.llm.hidden_size
        self.config = config
        self.llm = Decoder(config.llm, rngs=rngs)
        self.time_embedder = TimeEmbedder(width, rngs=rngs)
        self.vae2llm = Linear(config.latent_values, width, rngs=rngs)
        self.llm2vae = Linear(width, config.latent_values, rngs=rngs, initializer=jax.nn.initializers.zeros)
        self.latent_pos_embed = PositionTable(config.max_latent_size, width)
        sees = "vit" in parts and config.vit is not None
        self.vit = VisionTower(config.vit, rngs=rngs) if sees else None
        self.connector = Connector(config.vit.hidden_size, width, rngs=rngs) if sees else None
        self.vit_pos_embed = PositionTable(config.vit_max_num_patch_per_side, width) if sees else None
        self.vae = Autoencoder(config.vae, rngs=rngs) if "vae" in parts else None

    def embed_latents(
        self, latent: jax.Array, timestep: jax.Array, position_ids: jax.Array, dtype: jnp.dtype, tap: Tap = no_tap
    ) -> jax.Array:
        """The decoder's input for latent tokens.

        Args:
          latent: float32 [B, C, P], noisy or clean.
          timestep: float32 [B, C]; 0 for clean latents, whose time is embedded too.
          position_ids: int32 [B, C], rows of the latent position table.
          dtype: of the result.
          tap: called with "vae2llm" and "time_embed".
        """
        values = self.vae2llm(latent.astype(dtype))
        time = self.time_embedder(timestep, dtype)
        tap("vae2llm", values)
        tap("time_embed", time)
        return values + time + self.latent_pos_embed(position_ids, dtype)

    def embed_patches(
        self, patches: jax.Array, position_ids: jax.Array, tokens: TokenStream, compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """The decoder's input for image patches, [B, Cv, D] in the compute dtype.

        Args:
          patches: float32 [B, Cv, patch values], pixels in [-1, 1].
          position_ids: int32 [B, Cv], rows of both vision position tables.
          tokens: fields [B, Cv]; patches of one split belong to one image.
          compute: precision, attention route, remat.
          tap: called with "vit_layer", "vit_tower" and "vit_connector".

        Raises:
          ValueError: if the model was built without vision tower.
        """
        dtype = compute.compute_dtype
        if self.vit is None:
            raise ValueError("The batch holds images to be understood, but the model was built without vision tower.")
        # Splash wants heads of a multiple of 128 values; the tower's have 72.
        route = "chunked" if compute.attention == "splash" else compute.attention
        # Inside the tower an image sees only itself, however its sample is arranged.
        alone = dataclasses.replace(tokens, sample=tokens.split)
        attention = make_attention(alone, alone, route, compute.attention_block)
        hidden = self.vit(patches.astype(dtype), position_ids, attention, compute, tap)
        connected = self.connector(hidden)
        tap("vit_tower", hidden)
        tap("vit_connector", connected)
        return connected + self.vit_pos_embed(position_ids, dtype)

    def __call__(
        self,
        batch: PackedBatch,
        noisy_latent: jax.Array,
        timestep: jax.Array,
        compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> TrainingOutput:
        """The training forward pass over a packed batch.

        Args:
          batch: the tokens; its images are not looked at.
          noisy_latent: float32 [B, Cg, P]: `x_t`, which for clean images is the latent itself.
          timestep: float32 [B, Cg].
          compute: precision, attention route, remat.
          tap: called with names and values of intermediates; needs `compute.scan_layers` False.
        """
        dtype = compute.compute_dtype
        und = self.llm.embed(batch.text_ids, dtype)
        streams = [batch.text, batch.latent]
        if batch.vit.sample.shape[1]:
            patches = self.embed_patches(batch.vit_patches, batch.vit_position_ids, batch.vit, compute, tap)
            und = jnp.concatenate([und, patches], axis=1)
            streams = [batch.text, batch.vit, batch.latent]
        gen = self.embed_latents(noisy_latent, timestep, batch.latent_position_ids, dtype, tap)
        tokens = concatenate(streams)
        num_und = und.shape[1]
        rotary = Rotary.of(tokens.position, num_und, self.config.llm)
        attention = make_attention(tokens, tokens, compute.attention, compute.attention_block, prefix=num_und)
        tap("packed_sequence", Hidden(und, gen))
        hidden = self.llm(Hidden(und, gen), rotary, attention, compute, tap)
        tap("last_hidden", hidden)
        logits = None
        if batch.ce_index.shape[1]:
            chosen = jnp.take_along_axis(hidden.und, batch.ce_index[..., None], axis=1)
            logits = self.llm.lm_head(chosen).astype(jnp.float32)
        return TrainingOutput(self.llm2vae(hidden.gen), logits)
