"""The key tables of Janus-Pro: names in the authors' files and in those for transformers, and where they go.

Layers of one kind are stacked on a leading axis. The authors fuse the tower's maps to queries, keys and values; the
files for transformers hold them one by one.
"""

from collections.abc import Iterator

from srum_jax.models.janus_pro.config import MAX_DEPTH
from srum_jax.models.key_table import Ignored, Rule, Table
from srum_jax.models.published_layers import (
    QKV,
    conv,
    language_model,
    linear,
    norm,
    norms_and_mlp,
    pixel_attention,
    residual_block,
)


def _head(published: str, first: str) -> Iterator[Rule]:
    yield from linear(f"{published}.{first}", "gen_head.fc1")
    yield from linear(f"{published}.vision_head", "gen_head.fc2")


def _vq(published: str, levels: dict[str, str], block: str, middle: tuple[str, str, str]) -> Iterator[Rule]:
    """Rules of the picture tokenizer.

    Args:
      published: what all names begin with.
      levels: of the encoder and of the decoder.
      block: what a level calls its residual blocks.
      middle: names of block, attention, block.
    """
    yield from conv(f"{published}.quant_conv", "vq.encoder.quant_conv")
    yield from conv(f"{published}.post_quant_conv", "vq.decoder.post_quant_conv")
    yield Rule(f"{published}.quantize.embedding.weight", "vq.encoder.codebook.embedding")
    for half, ours, change in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        source, target = f"{published}.{half}", f"vq.{half}"
        for name in ("conv_in", "conv_out"):
            yield from conv(f"{source}.{name}", f"{target}.{name}")
        yield from norm(f"{source}.norm_out", f"{target}.norm_out")
        level, own = f"{source}.{levels[half]}.{{level}}", f"{target}.{ours}.{{level}}"
        yield from residual_block(f"{level}.{block}.{{block}}", f"{own}.block.{{block}}")
        yield from pixel_attention(f"{level}.attn.{{block}}", f"{own}.attn.{{block}}")
        yield from conv(f"{level}.{change}.conv", f"{own}.{change}")
        first, attention, second = (f"{source}.mid.{name}" for name in middle)
        yield from residual_block(first, f"{target}.mid.block_1")
        yield from pixel_attention(attention, f"{target}.mid.attn_1")
        yield from residual_block(second, f"{target}.mid.block_2")


def _original() -> Iterator[Rule]:
    yield from language_model("language_model.model", "language_model.lm_head", bias=False)
    yield from _head("gen_head", "output_mlp_projector")
    yield Rule("gen_embed.weight", "gen_embed.embedding")
    for aligner in ("aligner", "gen_aligner"):
        for number in range(MAX_DEPTH):  # a GELU lies between two maps, and counts
            yield from linear(f"{aligner}.layers.{2 * number}", f"{aligner}.maps.{number}")
    tower = "vision_model.vision_tower"
    yield Rule(f"{tower}.pos_embed", "vision.position_embed.embedding", (1, 2))
    yield from conv(f"{tower}.patch_embed.proj", "vision.patch_embed")
    yield from norm(f"{tower}.norm", "vision.post_norm")
    layer = f"{tower}.blocks.{{layer}}"
    yield from norms_and_mlp(layer, "vision.layers")
    for number, (_, name) in enumerate(QKV):
        yield from linear(f"{layer}.attn.qkv", f"vision.layers.{name}", share=(number, len(QKV)))
    yield from linear(f"{layer}.attn.proj", "vision.layers.out")
    yield from _vq("gen_vision_model", dict.fromkeys(("encoder", "decoder"), "conv_blocks"), "res", ("0", "1", "2"))


def _community() -> Iterator[Rule]:
    yield from language_model("model.language_model", "lm_head", bias=False)
    yield from _head("model.generation_head", "proj_out")
    yield Rule("model.generation_embeddings.weight", "gen_embed.embedding")
    for theirs, aligner in (("aligner", "aligner"), ("generation_aligner", "gen_aligner")):
        yield from linear(f"model.{theirs}.fc1", f"{aligner}.maps.0")
        for number in range(1, MAX_DEPTH):
            yield from linear(f"model.{theirs}.hidden_layers.{number - 1}", f"{aligner}.maps.{number}")
    tower = "model.vision_model"
    yield Rule(f"{tower}.embeddings.position_embedding.weight", "vision.position_embed.embedding")
    yield from conv(f"{tower}.embeddings.patch_embedding", "vision.patch_embed")
    yield from norm(f"{tower}.post_layernorm", "vision.post_norm")
    layer = f"{tower}.encoder.layers.{{layer}}"
    yield from norms_and_mlp(layer, "vision.layers", "layer_norm")
    for theirs, name in QKV:
        yield from linear(f"{layer}.self_attn.{theirs}_proj", f"vision.layers.{name}")
    yield from linear(f"{layer}.self_attn.projection_layer", "vision.layers.out")
    yield from _vq("model.vqmodel", {"encoder": "down", "decoder": "up"}, "block", ("block_1", "attn_1", "block_2"))


_ROTARY = "computed from rope_theta"
TABLE = Table(
    rules=tuple(_original()),
    ignored=(
        Ignored("vision_model.vision_tower.attn_pool.*", "the tower's tokens are used, not their pool"),
        Ignored("gen_vision_model.quantize.codebook_used", "a count of the tokenizer's own training"),
        Ignored("language_model.model.rotary_emb.inv_freq", _ROTARY),
        Ignored("language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq", _ROTARY),
    ),
)
COMMUNITY_TABLE = Table(
    rules=tuple(_community()),
    ignored=(Ignored("model.language_model.rotary_emb.inv_freq", _ROTARY),),
)

# Parts that a model may be built without, and how the names of their tensors begin, in either layout.
VISION_SOURCES = ("vision_model.", "model.vision_model.")
VQ_SOURCES = ("gen_vision_model.", "model.vqmodel.")
