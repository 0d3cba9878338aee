"""Sizes of a decoder of the Qwen2 and Llama kind; see `layers/decoder.py`."""

import dataclasses
from typing import Any, Self

from srum_jax.models.config_fields import Fields


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder. The defaults of the switches are those of Qwen2."""

    vocab_size: int  # rows of the embedding and of the output head
    hidden_size: int
    intermediate_size: int  # width of the gated MLP
    num_layers: int
    num_heads: int  # query heads
    num_kv_heads: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int  # largest rotary position that the model was trained for
    qkv_bias: bool = True  # of the maps to queries, keys and values; Llama has none
    qk_norm: bool = False  # RMS norm of each head of queries and keys

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @classmethod
    def read(cls, reader: Fields, max_position_embeddings: int, **others: Any) -> Self:
        """The sizes that a configuration of transformers states.

        Args:
          reader: of its fields.
          max_position_embeddings: where it states none.
          **others: fields of this class that no such configuration states.

        Raises:
          ConfigError: naming file and field.
        """
        config = cls(
            vocab_size=reader.positive("vocab_size"),
            hidden_size=reader.positive("hidden_size"),
            intermediate_size=reader.positive("intermediate_size"),
            num_layers=reader.positive("num_hidden_layers"),
            num_heads=reader.positive("num_attention_heads"),
            num_kv_heads=reader.positive("num_key_value_heads"),
            rms_norm_eps=reader.number("rms_norm_eps", 1e-6),
            rope_theta=reader.number("rope_theta", 1e6),
            max_position_embeddings=reader.positive("max_position_embeddings", max_position_embeddings),
            **others,
        )
        reader.divides("num_attention_heads", config.num_heads, "hidden_size", config.hidden_size)
        reader.divides("num_key_value_heads", config.num_kv_heads, "num_attention_heads", config.num_heads)
        return config
