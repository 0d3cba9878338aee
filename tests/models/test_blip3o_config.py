import json

import pytest

from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.config_fields import ConfigError

MODEL = {
    "model_type": "blip3o_qwen", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 151668,
    "tie_word_embeddings": True, "hidden_act": "silu", "use_sliding_window": False, "eos_token_id": 151645,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "gen_vision_tower": "eva-clip-E-14-plus",
    "gen_hidden_size": 1792, "gen_pooling": "early_pool2d_4", "n_query": 64, "vision_config": {"hidden_size": 1280},
}
UNET = {
    "block_out_channels": [320, 640, 1280], "layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20], "cross_attention_dim": 1792, "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 3328, "use_linear_projection": True,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "scaling_factor": 0.13025}


def read(**changes):
    return Blip3oConfig.from_json({**MODEL, **changes})


def test_what_the_release_does_not_state_takes_the_values_of_the_reference():
    config = read()
    assert (config.dit.grid, config.dit.channels, config.dit.width, config.dit.num_layers, config.dit.num_heads,
            config.dit.mlp_width, config.dit.modulation_width, config.dit.condition_width) == (
        8, 1792, 1792, 24, 28, 4864, 1024, 2048)
    assert (config.eva.num_layers, config.eva.num_heads, config.eva.mlp_width, config.eva.grid,
            config.eva.pooled_grid) == (64, 16, 15360, 32, 8)
    vision = config.vision
    assert (vision.num_layers, vision.num_heads, vision.intermediate_size, vision.out_hidden_size,
            vision.full_attention_layers, vision.window_tokens) == (32, 16, 3420, 2048, (7, 15, 23, 31), 4)
    tokens = config.special_tokens
    assert (tokens.turn_start, tokens.image_pad, tokens.image_start, tokens.image_query) == (
        151644, 151655, 151665, 151667)
    assert config.pixels is None and config.llm.tied


def test_both_names_of_the_rotary_positions_mean_the_same():
    sections = {"mrope_section": [16, 24, 24]}
    assert read(rope_scaling={"type": "default", **sections}) == read(rope_scaling={"type": "mrope", **sections})


def test_the_next_model_of_the_same_type_is_refused_by_its_name():
    with pytest.raises(ConfigError, match=r"config\.json: field 'vision_config'.*NEXT"):
        read(vision_config=None)


@pytest.mark.parametrize("field, value", [
    ("model_type", "qwen2"), ("hidden_size", "wide"), ("num_key_value_heads", 3), ("hidden_act", "gelu"),
    ("gen_pooling", "late_pool"), ("gen_pooling", "early_pool2d_5"), ("gen_hidden_size", 1024),
    ("gen_vision_tower", "siglip"), ("n_query", 0), ("use_sliding_window", True),
])
def test_an_unusable_value_is_refused_with_file_and_field(field, value):
    with pytest.raises(ConfigError, match=f"config.json.*'{field}'"):
        read(**{field: value})


@pytest.mark.parametrize("field, value", [
    ("mrope_section", [16, 24]), ("mrope_section", [8, 8, 8]), ("type", "yarn"),
])
def test_unusable_rotary_positions_are_refused_with_the_field(field, value):
    with pytest.raises(ConfigError, match=f"rope_scaling: field '{field}'"):
        read(rope_scaling={**MODEL["rope_scaling"], field: value})


@pytest.mark.parametrize("field, value", [
    ("fullatt_block_indexes", [40]), ("fullatt_block_indexes", [True]), ("num_heads", 7), ("window_size", 14),
    ("out_hidden_size", 3584),
])
def test_an_unusable_vision_tower_is_refused_with_the_field(field, value):
    with pytest.raises(ConfigError, match=f"vision_config: field '{field}'"):
        read(vision_config={"hidden_size": 1280, field: value})


@pytest.mark.parametrize("field, value", [
    ("patch_size", 2), ("input_size", 4), ("in_channels", 64), ("n_kv_heads", 4), ("n_heads", 3),
    ("latent_embedding_size", 3584), ("qk_norm", False),
])
def test_an_unusable_diffusion_transformer_is_refused_with_file_and_field(field, value):
    with pytest.raises(ConfigError, match=f"dit_config.json: field '{field}'"):
        Blip3oConfig.from_json(MODEL, dit={field: value})


@pytest.mark.parametrize("file, field, value", [
    ("unet", "cross_attention_dim", 2048), ("unet", "attention_head_dim", [5, 10]), ("unet", "act_fn", "gelu"),
    ("unet", "down_block_types", ["DownBlock2D"]), ("unet", "projection_class_embeddings_input_dim", 2816),
    ("vae", "block_out_channels", []), ("scheduler", "prediction_type", "v_prediction"),
])
def test_an_unusable_pixel_decoder_is_refused_with_file_and_field(file, field, value, tmp_path):
    write(tmp_path, {file: {field: value}})
    with pytest.raises(ConfigError, match=f"diffusion-decoder/{file}/.*'{field}'"):
        Blip3oConfig.from_directory(tmp_path)


def test_the_pixel_decoder_is_read_from_its_three_files(tmp_path):
    write(tmp_path, {})
    pixels = Blip3oConfig.from_directory(tmp_path).pixels
    assert pixels.unet.transformer_depth == (0, 2, 10) and pixels.unet.num_heads == (5, 10, 20)
    assert pixels.unet.time_width == 1280 and pixels.vae.stride == 8


def test_a_pixel_decoder_without_one_of_its_files_is_refused_by_name(tmp_path):
    write(tmp_path, {})
    (tmp_path / "diffusion-decoder" / "vae" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"vae/config\.json"):
        Blip3oConfig.from_directory(tmp_path)


def write(directory, changes):
    (directory / "config.json").write_text(json.dumps(MODEL))
    for folder, name, content in (("unet", "config.json", UNET), ("vae", "config.json", VAE),
                                  ("scheduler", "scheduler_config.json", {})):
        path = directory / "diffusion-decoder" / folder / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({**content, **changes.get(folder, {})}))
