"""Sizes of a decoder of the Qwen2 and Llama kind; see `layers/decoder.py`."""

import dataclasses


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
