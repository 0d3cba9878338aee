"""What the configuration files of all tiny models of this world have in common; widths and sizes are added to it."""

from typing import Any

from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS

LLM: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "vocab_size": 160,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "bos_token_id": SPECIAL_TOKENS.bos,
    "eos_token_id": SPECIAL_TOKENS.eos,
}
VIT: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,  # as in the release, the last one is counted, and neither stored nor used
    "num_attention_heads": 4,
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
MODEL: dict[str, Any] = {
    "architectures": ["Bagel"],
    "model_type": "bagel",
    "visual_gen": True,
    "visual_und": True,
    "llm_qk_norm": True,
    "layer_module": "Qwen2MoTDecoderLayer",
    "tie_word_embeddings": False,
    "vit_select_layer": -2,
    "vit_rope": False,
    "special_token_ids": {
        "bos_token_id": SPECIAL_TOKENS.bos,
        "eos_token_id": SPECIAL_TOKENS.eos,
        "start_of_image": SPECIAL_TOKENS.start_of_image,
        "end_of_image": SPECIAL_TOKENS.end_of_image,
    },
    "connector_act": "gelu_pytorch_tanh",
    "interpolate_pos": False,
    "timestep_shift": 1.0,
}
