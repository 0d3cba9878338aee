"""Sizes of the trained tiny Janus-Pro: pictures of 48 x 48 pixels as 12 x 12 codes, read in 3 x 3 patches."""

from typing import Any

from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.worlds.shapes.bases.janus_pro import janus_config, janus_files
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

LLM = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
       "num_key_value_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}
TOWER = {"width": 128, "layers": 2, "heads": 4, "patch_size": 16, "image_size": PICTURE_SIZE, "mlp_ratio": 2}
# The encoder's first level holds 2 x 2 pixels.
VQ = {"ch": 12, "ch_mult": [1, 2, 4], "num_res_blocks": 1, "z_channels": 16, "num_groups": 4, "codebook_size": 1024,
      "codebook_embed_dim": 8, "grid": 12}


def trained_janus_files() -> dict[str, dict[str, Any]]:
    """Names and contents of the configuration files."""
    return janus_files(llm=LLM, tower=TOWER, vq=VQ, head_width=LLM["hidden_size"])


def trained_janus_config() -> JanusConfig:
    """The configuration that these files describe."""
    return janus_config(trained_janus_files())
