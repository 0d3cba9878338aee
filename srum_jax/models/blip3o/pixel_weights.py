"""The key table of BLIP3o's pixel decoder: the files of `diffusion-decoder`, with a prefix for each."""

from collections.abc import Iterator

from srum_jax.models.key_table import Rule
from srum_jax.models.published_layers import QKV, conv, linear, norm, residual_block

UNET_PREFIX = "diffusion-decoder.unet."
VAE_PREFIX = "diffusion-decoder.vae."


def _residual_block(source: str, target: str) -> Iterator[Rule]:
    yield from residual_block(source, target, "conv_shortcut")
    yield from linear(f"{source}.time_emb_proj", f"{target}.time_proj")


def _transformer(source: str, target: str) -> Iterator[Rule]:
    yield from norm(f"{source}.norm", f"{target}.norm")
    for name in ("proj_in", "proj_out"):
        yield from linear(f"{source}.{name}", f"{target}.{name}")
    block, ours = f"{source}.transformer_blocks.{{layer}}", f"{target}.blocks"
    for number in (1, 2, 3):
        yield from norm(f"{block}.norm{number}", f"{ours}.norm{number}")
    for attention, kind in (("attn1", "self"), ("attn2", "cross")):
        for theirs, name in QKV:
            yield from linear(f"{block}.{attention}.to_{theirs}", f"{ours}.{kind}_{name}", bias=False)
        yield from linear(f"{block}.{attention}.to_out.0", f"{ours}.{kind}_out")
    yield from linear(f"{block}.ff.net.0.proj", f"{ours}.fc1")
    yield from linear(f"{block}.ff.net.2", f"{ours}.fc2")


def unet() -> Iterator[Rule]:
    """Rules of the U-Net."""
    published, ours = UNET_PREFIX.removesuffix("."), "decoder.unet"
    for theirs, name in (("time_embedding", "time"), ("add_embedding", "addition")):
        for number in (1, 2):
            yield from linear(f"{published}.{theirs}.linear_{number}", f"{ours}.{name}.fc{number}")
    for name in ("conv_in", "conv_out"):
        yield from conv(f"{published}.{name}", f"{ours}.{name}")
    yield from norm(f"{published}.conv_norm_out", f"{ours}.norm_out")
    for theirs, name in (("down_blocks.{level}", "down.{level}"), ("mid_block", "mid"),
                         ("up_blocks.{level}", "up.{level}")):
        source, target = f"{published}.{theirs}", f"{ours}.{name}"
        yield from _residual_block(f"{source}.resnets.{{number}}", f"{target}.block.{{number}}")
        yield from _transformer(f"{source}.attentions.{{number}}", f"{target}.transformer.{{number}}")
    yield from conv(f"{published}.down_blocks.{{level}}.downsamplers.0.conv", f"{ours}.down.{{level}}.downsample")
    yield from conv(f"{published}.up_blocks.{{level}}.upsamplers.0.conv", f"{ours}.up.{{level}}.upsample")


def vae() -> Iterator[Rule]:
    """Rules of the autoencoder's decoding half."""
    ours = "decoder.vae"
    yield from conv(f"{VAE_PREFIX}post_quant_conv", f"{ours}.post_quant_conv")
    published = f"{VAE_PREFIX}decoder"
    for name in ("conv_in", "conv_out"):
        yield from conv(f"{published}.{name}", f"{ours}.{name}")
    yield from norm(f"{published}.conv_norm_out", f"{ours}.norm_out")
    for number in (0, 1):
        yield from _residual_block(f"{published}.mid_block.resnets.{number}", f"{ours}.mid.block_{number + 1}")
    attention = f"{published}.mid_block.attentions.0"
    yield from norm(f"{attention}.group_norm", f"{ours}.mid.attn_1.norm")
    for theirs, name in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        yield from linear(f"{attention}.{theirs}", f"{ours}.mid.attn_1.{name}")
    level, mine = f"{published}.up_blocks.{{level}}", f"{ours}.up.{{level}}"
    yield from _residual_block(f"{level}.resnets.{{number}}", f"{mine}.block.{{number}}")
    yield from conv(f"{level}.upsamplers.0.conv", f"{mine}.upsample")
