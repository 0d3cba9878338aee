"""The configuration of the released BAGEL-7B-MoT, for what has to know its sizes without having its files."""

from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig, SpecialTokens, VisionConfig

RELEASED = BagelConfig(
    llm=LanguageConfig(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_layers=28, num_heads=28, num_kv_heads=4,
        rms_norm_eps=1e-6, rope_theta=1e6, max_position_embeddings=32768,
    ),
    vit=VisionConfig(
        hidden_size=1152, intermediate_size=4304, num_heads=16, num_layers=26, image_size=980, patch_size=14,
        num_channels=3, layer_norm_eps=1e-6,
    ),
    vae=AutoencoderConfig(),
    special_tokens=SpecialTokens(),
)
