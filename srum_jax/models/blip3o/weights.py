"""The key table of BLIP3o: names in the published files, and where they go in our model.

Layers of one kind are stacked on a leading axis. The files of `diffusion-decoder` get prefixes, and the tower's own
file the one that its tensors carry in the main files.
"""

from collections.abc import Iterator

from srum_jax.models.blip3o.pixel_weights import UNET_PREFIX, VAE_PREFIX, unet, vae
from srum_jax.models.key_table import Ignored, Rule, Table
from srum_jax.models.published_layers import QKV, conv, language_model, linear, norm, norms_and_mlp, rms

EVA_PREFIX = "model.gen_vision_tower.vision_tower.model."


def _vision() -> Iterator[Rule]:
    yield Rule("visual.patch_embed.proj.weight", "vision.patch_embed.kernel", (1, 2, 3, 4, 0))
    layer, ours = "visual.blocks.{layer}", "vision.layers"
    for number in (1, 2):
        yield from rms(f"{layer}.norm{number}", f"{ours}.norm{number}")
    yield from linear(f"{layer}.attn.qkv", f"{ours}.qkv")
    yield from linear(f"{layer}.attn.proj", f"{ours}.out")
    for name in ("gate", "up", "down"):
        yield from linear(f"{layer}.mlp.{name}_proj", f"{ours}.{name}")
    yield from rms("visual.merger.ln_q", "vision.merger.norm")
    yield from linear("visual.merger.mlp.0", "vision.merger.fc1")
    yield from linear("visual.merger.mlp.2", "vision.merger.fc2")


def _diffusion_transformer() -> Iterator[Rule]:
    published, ours = "model.dit.model", "dit"
    for theirs, name in (
        ("patch_embedder.proj", "patch_embed"), ("caption_projection.linear_1", "condition_fc1"),
        ("caption_projection.linear_2", "condition_fc2"), ("norm_out.linear_1", "out_scale"),
        ("norm_out.linear_2", "out"), ("time_caption_embed.timestep_embedder.linear_1", "time_fc1"),
        ("time_caption_embed.timestep_embedder.linear_2", "time_fc2"),
        ("time_caption_embed.caption_embedder.1", "pooled"),
    ):
        yield from linear(f"{published}.{theirs}", f"{ours}.{name}")
    yield from norm(f"{published}.time_caption_embed.caption_embedder.0", f"{ours}.pooled_norm")
    layer, ours = f"{published}.layers.{{layer}}", f"{ours}.layers"
    yield Rule(f"{layer}.gate", f"{ours}.cross_gate")
    yield from linear(f"{layer}.norm1.linear", f"{ours}.modulation")
    for theirs, name in (("norm1.norm", "attention_norm"), ("norm1_context", "context_norm"),
                         ("norm2", "attention_out_norm"), ("ffn_norm1", "mlp_norm"), ("ffn_norm2", "mlp_out_norm")):
        yield from rms(f"{layer}.{theirs}", f"{ours}.{name}")
    for attention, kind in (("attn1", "self"), ("attn2", "cross")):
        for theirs, name in QKV:
            yield from linear(f"{layer}.{attention}.to_{theirs}", f"{ours}.{kind}_{name}", bias=False)
        for theirs, name in (("q", "query"), ("k", "key")):
            yield from norm(f"{layer}.{attention}.norm_{theirs}", f"{ours}.{kind}_{name}_norm")
    yield from linear(f"{layer}.attn2.to_out.0", f"{ours}.out", bias=False)  # of both attentions
    for number, name in ((1, "gate"), (2, "down"), (3, "up")):
        yield from linear(f"{layer}.feed_forward.linear_{number}", f"{ours}.{name}", bias=False)


def _feature_tower() -> Iterator[Rule]:
    yield Rule(f"{EVA_PREFIX}cls_token", "eva.class_token")
    yield Rule(f"{EVA_PREFIX}pos_embed", "eva.position")
    yield from conv(f"{EVA_PREFIX}patch_embed.proj", "eva.patch_embed")
    layer, ours = f"{EVA_PREFIX}blocks.{{layer}}", "eva.layers"
    yield from norms_and_mlp(layer, ours)
    yield from linear(f"{layer}.attn.qkv", f"{ours}.qkv")
    yield from linear(f"{layer}.attn.proj", f"{ours}.out")


TABLE = Table(
    rules=(*language_model("model", "lm_head", bias=True), Rule("model.latent_queries", "queries.vectors"),
           *_diffusion_transformer(), *_vision(), *_feature_tower(), *unet(), *vae()),
    ignored=(
        Ignored("model.vae.*", "an autoencoder that BLIP3o does not use"),
        Ignored(f"{VAE_PREFIX}encoder.*", "the pixel decoder's autoencoder only decodes"),
        Ignored(f"{VAE_PREFIX}quant_conv.*", "the pixel decoder's autoencoder only decodes"),
    ),
)

# Parts that a model may be built without, and how the names of their tensors begin.
VISION_SOURCES = ("visual.",)
EVA_SOURCES = (EVA_PREFIX,)
DECODER_SOURCES = (UNET_PREFIX, VAE_PREFIX)
