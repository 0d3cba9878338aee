"""The key table of BAGEL: names in `ema.safetensors` and `ae.safetensors`, and where they go in our model.

The layers of the decoder and of the vision tower are stacked on a leading axis. The tensors of the generation expert
carry `_moe_gen` behind the name of their module.
"""

import math
from collections.abc import Iterator

import numpy as np

from srum_jax.models.key_table import Ignored, Rule, Table
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.models.published_layers import (
    QKV,
    conv,
    decoder_layer,
    linear,
    norm,
    norms_and_mlp,
    pixel_attention,
    residual_block,
    rms,
)


def _expert(expert: str, suffix: str) -> Iterator[Rule]:
    layer, ours = "language_model.model.layers.{layer}", f"llm.layers.{expert}"
    yield from decoder_layer(layer, ours, bias=True, suffix=suffix)
    for theirs, name in (("q", "query"), ("k", "key")):
        yield from rms(f"{layer}.self_attn.{theirs}_norm{suffix}", f"{ours}.{name}_norm")
    yield from rms(f"language_model.model.norm{suffix}", f"llm.{expert}_norm")


def _language_model() -> Iterator[Rule]:
    yield Rule("language_model.model.embed_tokens.weight", "llm.embed.embedding")
    yield from linear("language_model.lm_head", "llm.lm_head", bias=False)
    yield from _expert("und", "")
    yield from _expert("gen", "_moe_gen")


def _table_of_shape(shape: tuple[int, ...]) -> np.ndarray:
    rows, width = shape
    return np.asarray(sincos_table(width, math.isqrt(rows)), np.float32)


def _latents() -> Iterator[Rule]:
    yield from linear("time_embedder.mlp.0", "time_embedder.fc1")
    yield from linear("time_embedder.mlp.2", "time_embedder.fc2")
    yield from linear("vae2llm", "vae2llm")
    yield from linear("llm2vae", "llm2vae")
    # The reference refuses checkpoints without these two tables although it recomputes both.
    yield Rule("latent_pos_embed.pos_embed", "latent_pos_embed.table", computed=_table_of_shape)


def _vision() -> Iterator[Rule]:
    yield from linear("connector.fc1", "connector.fc1")
    yield from linear("connector.fc2", "connector.fc2")
    yield Rule("vit_pos_embed.pos_embed", "vit_pos_embed.table", computed=_table_of_shape)
    tower = "vit_model.vision_model"
    yield from linear(f"{tower}.embeddings.patch_embedding", "vit.patch_embed")
    yield Rule(f"{tower}.embeddings.position_embedding.weight", "vit.position_embed.embedding")
    yield from norm(f"{tower}.post_layernorm", "vit.post_norm")
    layer = f"{tower}.encoder.layers.{{layer}}"
    for theirs, name in (*QKV, ("out", "out")):
        yield from linear(f"{layer}.self_attn.{theirs}_proj", f"vit.layers.{name}")
    yield from norms_and_mlp(layer, "vit.layers", "layer_norm")


def _autoencoder() -> Iterator[Rule]:
    for half, levels, change in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        yield from conv(f"{half}.conv_in", f"vae.{half}.conv_in")
        level = f"{half}.{levels}.{{level}}"
        yield from residual_block(f"{level}.block.{{block}}", f"vae.{level}.block.{{block}}")
        yield from conv(f"{level}.{change}.conv", f"vae.{level}.{change}")
        yield from residual_block(f"{half}.mid.block_{{block}}", f"vae.{half}.mid.block_{{block}}")
        yield from pixel_attention(f"{half}.mid.attn_1", f"vae.{half}.mid.attn_1")
        yield from norm(f"{half}.norm_out", f"vae.{half}.norm_out")
        yield from conv(f"{half}.conv_out", f"vae.{half}.conv_out")


TABLE = Table(
    rules=(*_language_model(), *_latents(), *_vision(), *_autoencoder()),
    ignored=(
        Ignored("language_model.model.rotary_emb.inv_freq", "computed from rope_theta"),
        Ignored("language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from "
                                                                                     "rope_theta"),
        Ignored("vit_model.vision_model.embeddings.position_ids", "positions are computed from the image's "
                                                                  "size"),
    ),
)

# Parts that a model may be built without, and the source names that then have no place.
VISION_SOURCES = ("vit_model.", "connector.", "vit_pos_embed.")
AUTOENCODER_SOURCES = ("encoder.", "decoder.")
