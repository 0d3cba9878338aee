"""Sizes of the two released models, for who asks about them without their files."""

from srum_jax.models.decoder_config import DecoderConfig
from srum_jax.models.janus_pro.config import JanusConfig, VisionConfig, VQConfig
from srum_jax.models.janus_pro.tokens import SpecialTokens


def _released(hidden_size: int, intermediate_size: int, num_layers: int, num_heads: int) -> JanusConfig:
    return JanusConfig(
        llm=DecoderConfig(
            vocab_size=102400, hidden_size=hidden_size, intermediate_size=intermediate_size, num_layers=num_layers,
            num_heads=num_heads, num_kv_heads=num_heads, rms_norm_eps=1e-6, rope_theta=1e4,
            max_position_embeddings=16384, qkv_bias=False,
        ),
        vision=VisionConfig(), vq=VQConfig(), head_width=hidden_size,
        special_tokens=SpecialTokens(),  # those of 1B for both; a checkpoint's are looked up in its tokenizer
    )


RELEASED = {"7B": _released(4096, 11008, 30, 32), "1B": _released(2048, 5632, 24, 16)}
