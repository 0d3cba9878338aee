"""Sizes of the two released models, for who asks about them without their files."""

from srum_jax.models.blip3o.config import Blip3oConfig, LanguageConfig, SpecialTokens, VisionConfig
from srum_jax.models.blip3o.feature_config import DiTConfig, EvaConfig
from srum_jax.models.blip3o.pixel_config import PixelDecoderConfig, PixelSchedule, PixelVaeConfig, UNetConfig


def _released(hidden_size: int, intermediate_size: int, num_layers: int, num_heads: int, num_kv_heads: int,
              tied: bool) -> Blip3oConfig:
    return Blip3oConfig(
        llm=LanguageConfig(
            vocab_size=151668, hidden_size=hidden_size, intermediate_size=intermediate_size, num_layers=num_layers,
            num_heads=num_heads, num_kv_heads=num_kv_heads, rms_norm_eps=1e-6, rope_theta=1e6,
            max_position_embeddings=128000, tied=tied,
        ),
        vision=VisionConfig(hidden_size=1280, out_hidden_size=hidden_size),
        eva=EvaConfig(),
        dit=DiTConfig(condition_width=hidden_size),
        pixels=PixelDecoderConfig(
            UNetConfig(
                in_channels=4, out_channels=4, widths=(320, 640, 1280), layers_per_block=2,
                transformer_depth=(0, 2, 10), num_heads=(5, 10, 20), condition_width=1792, size_features=256,
                norm_groups=32, norm_eps=1e-5, sample_size=128,
            ),
            PixelVaeConfig(latent_channels=4, out_channels=3, widths=(128, 256, 512, 512), layers_per_block=2,
                           norm_groups=32, scaling_factor=0.13025),
            PixelSchedule(),
        ),
        special_tokens=SpecialTokens(
            pad=151643, turn_start=151644, turn_end=151645, vision_start=151652, vision_end=151653, image_pad=151655,
            image_start=151665, image_query=151667,
        ),
    )


RELEASED = {
    "8B": _released(3584, 18944, 28, 28, 4, tied=False),
    "4B": _released(2048, 11008, 36, 16, 2, tied=True),
}
