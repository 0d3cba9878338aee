import dataclasses
import json

import pytest

from srum_jax.models.config_fields import ConfigError
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.tokens import NAMES, SpecialTokens, read_tokens


def block(kind, **params):
    return {"cls": kind, "model_type": "of no interest", "params": params}


def released(size):
    """`config.json` as the authors publish it; that of 7B leaves widths to the defaults."""
    width = {"1B": 2048, "7B": 4096}[size]
    sizes = {"1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
                    "num_key_value_heads": 16}, "7B": {"num_hidden_layers": 30}}[size]
    return {
        "model_type": "multi_modality",
        "language_config": {"model_type": "llama", "vocab_size": 102400, "max_position_embeddings": 16384, **sizes},
        "vision_config": block("CLIPVisionTower", image_size=384, model_name="siglip_large_patch16_384",
                               select_feature="same", select_layer=-1),
        "aligner_config": block("MlpProjector", depth=2, input_dim=1024, n_embed=width, projector_type="mlp_gelu"),
        "gen_vision_config": block("VQ-16", image_token_size=16384, n_embed=8),
        "gen_aligner_config": block("MlpProjector", depth=2, input_dim=8, n_embed=width, projector_type="mlp_gelu"),
        "gen_head_config": block("vision_head", image_token_embed=width, image_token_size=16384, n_embed=width),
    }


# The tiny case in the layout for transformers.
COMMUNITY_TINY = {
    "model_type": "janus", "image_token_id": 94,
    "text_config": {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 16384,
                    "rms_norm_eps": 1e-6, "rope_theta": 10000.0},
    "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 48,
                      "projection_dim": 48, "num_image_tokens": 9},
    "vq_config": {"base_channels": 16, "channel_multiplier": [1, 1, 2], "latent_channels": 24, "num_embeddings": 64,
                  "projection_dim": 48, "image_token_embed_dim": 48, "num_patches": 4},
}


def test_what_the_release_does_not_state_takes_the_values_of_the_reference():
    config = JanusConfig.from_json(released("7B"))
    llm = config.llm
    assert (llm.hidden_size, llm.intermediate_size, llm.num_layers, llm.num_heads, llm.num_kv_heads, llm.head_dim,
            llm.rope_theta, llm.rms_norm_eps, llm.qkv_bias) == (4096, 11008, 30, 32, 32, 128, 1e4, 1e-6, False)
    assert (config.vision.num_tokens, config.vision.num_layers, config.vision.intermediate_size) == (576, 24, 4096)
    assert (config.vq.num_codes, config.vq.image_size, config.vq.codebook_size) == (576, 384, 16384)
    assert config.special_tokens.image == 100581


def test_the_layout_for_transformers_leaves_out_what_the_1b_model_has():
    text = {**released("1B")["language_config"]}
    config = JanusConfig.from_json({"model_type": "janus", "text_config": text})
    assert config == JanusConfig.from_json(released("1B"))


@pytest.mark.parametrize("name", ["gen_vision_config", "gen_aligner_config", "gen_head_config"])
def test_a_model_of_the_same_type_that_draws_nothing_is_refused_by_its_name(name):
    fields = released("1B")
    del fields[name]
    with pytest.raises(ConfigError, match=rf"config\.json: field '{name}'.*DeepSeek-VL"):
        JanusConfig.from_json(fields)


@pytest.mark.parametrize("where, field, value", [
    ("gen_vision_config", "image_token_size", 100), ("gen_head_config", "n_embed", 100),
    ("aligner_config", "projector_type", "linear"), ("aligner_config", "n_embed", 100),
    ("aligner_config", "depth", 9), ("vision_config", "model_name", "clip"), ("vision_config", "image_size", 100),
    ("vision_config", "select_layer", -25), ("vision_config", "select_feature", "cls"),
])
def test_an_unusable_value_is_refused_with_file_and_field(where, field, value):
    fields = released("1B")
    fields[where]["params"][field] = value
    with pytest.raises(ConfigError, match=rf"config\.json: (gen_head|{where.removesuffix('_config')})_config.*'"):
        JanusConfig.from_json(fields)


def test_another_tokenizer_of_pictures_is_refused():
    fields = released("1B")
    fields["gen_vision_config"]["cls"] = "VQ-8"
    with pytest.raises(ConfigError, match="gen_vision_config: field 'cls': expected 'VQ-16', found 'VQ-8'"):
        JanusConfig.from_json(fields)


@pytest.mark.parametrize("select, layers", [(-1, 24), (-2, 23), (0, 24), (5, 5)])
def test_a_selected_layer_is_the_towers_last(select, layers):
    fields = released("1B")
    fields["vision_config"]["params"]["select_layer"] = select
    assert JanusConfig.from_json(fields).vision.num_layers == layers


def test_ids_of_control_tokens_are_looked_up_by_name(tmp_path):
    ids = {name: 7 + number for number, name in enumerate(NAMES.values())}
    content = {"model": {"vocab": {NAMES["bos"]: 7}},
               "added_tokens": [{"id": number, "content": name} for name, number in ids.items()]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert dataclasses.astuple(read_tokens(tmp_path)) == (7, 8, 9, 10, 11, 12)
    content["added_tokens"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"tokenizer\.json: token '<image_placeholder>'"):
        read_tokens(tmp_path)


def test_an_id_that_the_model_has_no_row_for_is_refused():
    with pytest.raises(ConfigError, match="token 'image'"):
        JanusConfig.from_json(COMMUNITY_TINY, vq={"num_groups": 8}, tokens=SpecialTokens(1, 2, 3, 4, 5, 96))
