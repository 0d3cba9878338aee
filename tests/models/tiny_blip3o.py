"""A BLIP3o of a few thousand parameters."""

from srum_jax.models.blip3o.config import Blip3oConfig


def tiny_config(**changes) -> Blip3oConfig:
    """Its configuration; `changes` are fields of `config.json`."""
    model = {
        "model_type": "blip3o_qwen", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 288, "tie_word_embeddings": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "n_query": 4, "gen_hidden_size": 16,
        "gen_pooling": "early_pool2d_2", "pad_token_id": 263, "eos_token_id": 265, "vision_start_token_id": 272,
        "vision_end_token_id": 273, "image_token_id": 275,
        "vision_config": {"hidden_size": 16, "depth": 3, "num_heads": 2, "intermediate_size": 24, "window_size": 56,
                          "fullatt_block_indexes": [1]},
        **changes,
    }
    dit = {"input_size": 2, "in_channels": 16, "dim": 16, "n_layers": 2, "n_heads": 2, "multiple_of": 16}
    eva = {"vision_cfg": {"width": 16, "layers": 2, "head_width": 8, "image_size": 16, "patch_size": 4,
                          "mlp_ratio": 2.0}}
    return Blip3oConfig.from_json(model, dit=dit, eva=eva)
