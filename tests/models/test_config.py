import dataclasses
import functools
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, SpecialTokens
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.config_fields import ConfigError
from srum_jax.models.layers.parameter import abstract_model
from tests.models.packs import random_batch, small_config

LLM = {"vocab_size": 152064, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
       "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
       "tie_word_embeddings": False, "hidden_act": "silu", "use_sliding_window": False}
VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 27, "num_attention_heads": 2,
       "image_size": 980, "patch_size": 14}


def write(directory, **files):
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / f"{name}.json").write_text(text)
    return directory


def test_what_the_release_leaves_out_takes_the_released_values(tmp_path):
    config = BagelConfig.from_directory(write(tmp_path, llm_config=LLM, vit_config=VIT))
    assert config.special_tokens == SpecialTokens(151644, 151645, 151652, 151653)
    assert config.vae == AutoencoderConfig()
    assert (config.latent_patch_size, config.max_latent_size, config.vit_max_num_patch_per_side) == (2, 64, 70)
    assert config.vit.num_layers == 26, "the JSON counts one layer more than there is"
    assert config.latent_stride == 16 and config.latent_values == 64


@pytest.mark.parametrize("text, found", [
    ('{"max_latent_size": 32,}', 32),
    ('{"max_latent_size": 32 /* tokens */ // a side\n}', 32),
    ('{"a": "//,}", "max_latent_size": 32,}', 32),
    ("{max_latent_size", 64),
    ("[]", 64),
    ("null", 64),
])
def test_a_config_json_that_is_not_strictly_valid_is_read_with_a_warning(text, found, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        config = BagelConfig.from_directory(write(tmp_path, llm_config=LLM, config=text))
    assert config.max_latent_size == found and "config.json" in caplog.text


def test_a_model_without_vision_tower_has_none(tmp_path):
    assert BagelConfig.from_directory(write(tmp_path, llm_config=LLM)).vit is None
    both = write(tmp_path, vit_config=VIT, config={"visual_und": False})
    assert BagelConfig.from_directory(both).vit is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"llm_config\.json: no such file"),
        ({"llm_config": "{"}, r"llm_config\.json: not valid JSON"),
        ({"llm_config": []}, "expected a JSON object, found list"),
        ({"llm_config": {k: v for k, v in LLM.items() if k != "hidden_size"}}, "field 'hidden_size' is missing"),
        ({"llm_config": LLM | {"hidden_size": "64"}}, "field 'hidden_size': expected an integer, found '64'"),
        ({"llm_config": LLM | {"num_hidden_layers": 0}}, "field 'num_hidden_layers': expected a positive integer"),
        ({"llm_config": LLM | {"num_attention_heads": 5}}, "expected a divisor of hidden_size 64, found 5"),
        ({"llm_config": LLM | {"num_key_value_heads": 3}}, "expected a divisor of num_attention_heads 4, found 3"),
        ({"llm_config": LLM | {"tie_word_embeddings": True}}, "'tie_word_embeddings': only False is supported"),
        ({"llm_config": LLM | {"hidden_act": "gelu"}}, "'hidden_act': only 'silu' is supported, found 'gelu'"),
        ({"llm_config": LLM | {"rope_scaling": {"type": "yarn"}}}, "'rope_scaling': only None is supported"),
        ({"llm_config": LLM | {"vocab_size": 1000}}, "'special_token_ids': token 'bos': .* vocab_size 1000"),
        ({"llm_config": LLM, "vit_config": VIT | {"num_hidden_layers": 1}}, "no layer is left"),
        ({"llm_config": LLM, "vae_config": {"ch": 32, "ch_mult": []}}, "'ch_mult': expected a list of positive"),
        ({"llm_config": LLM, "vae_config": "null"}, r"vae_config\.json: expected a JSON object, found null"),
        ({"llm_config": LLM, "config": {"special_token_ids": {"bos_token_id": 1}}}, "field 'special_token_ids'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named_by_file_and_field(tmp_path, files, message):
    with pytest.raises(ConfigError, match=message):
        BagelConfig.from_directory(write(tmp_path, **files))


@functools.cache
def shapes(config):
    _, state = abstract_model(Bagel, config)
    return {path: variable.get_value().shape for path, variable in nnx.to_flat_state(state)}


def with_field(config, path, value):
    if len(path) == 1:
        return dataclasses.replace(config, **{path[0]: value})
    return dataclasses.replace(config, **{path[0]: with_field(getattr(config, path[0]), path[1:], value)})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("llm.vocab_size", 80), ("llm.hidden_size", 128), ("llm.intermediate_size", 96), ("llm.num_layers", 2),
        ("llm.num_heads", 2), ("llm.num_kv_heads", 1), ("vit.hidden_size", 64), ("vit.intermediate_size", 64),
        ("vit.num_layers", 1), ("vit.image_size", 70), ("vit.patch_size", 7), ("vit.num_channels", 1), ("vit", None),
        ("vae.in_channels", 4), ("vae.out_ch", 4), ("vae.ch", 64), ("vae.ch_mult", (1, 2)), ("vae.num_res_blocks", 2),
        ("vae.z_channels", 8), ("latent_patch_size", 1), ("max_latent_size", 6), ("vit_max_num_patch_per_side", 5),
    ],
)
def test_a_field_that_decides_a_shape_changes_one(path, value):
    assert shapes(with_field(small_config(), path.split("."), value)) != shapes(small_config())


@pytest.mark.parametrize(
    ("path", "value"),
    [("llm.rms_norm_eps", 0.5), ("llm.rope_theta", 20.0)],
)
def test_a_field_that_decides_a_number_changes_the_output(path, value):
    config = small_config()
    batch = random_batch(config, rows=1)
    noisy = jax.random.normal(jax.random.key(0), (1, 16, config.latent_values))

    def velocity(config):
        model = Bagel(config, rngs=nnx.Rngs(0), parts=("vit",))
        model.llm2vae.kernel.set_value(jnp.ones_like(model.llm2vae.kernel[...]))
        return model(batch, noisy, jnp.full((1, 16), 0.5), ComputeConfig(remat="none")).velocity

    assert not np.allclose(velocity(with_field(config, path.split("."), value)), velocity(config), atol=1e-4)


def test_autoencoder_scale_and_shift_change_the_latents():
    def latent(**fields):
        vae = dataclasses.replace(small_config().vae, **fields)
        model = Bagel(small_config(vae=vae), rngs=nnx.Rngs(0)).vae
        return model.sample(model.posterior(jnp.ones((1, 8, 8, 3))), jnp.zeros((1, 4, 4, 4)))

    assert not np.allclose(latent(scale_factor=0.7), latent())
    assert not np.allclose(latent(shift_factor=0.7), latent())


def test_more_text_than_the_model_has_positions_is_refused():
    rows = BagelRows(text_capacity=512, image_height=32, image_width=32, stride=4, max_size=32, min_size=16)
    with pytest.raises(ValueError, match=r"rows\.text_capacity: expected at most the 512 rotary positions"):
        row_capacity(rows, small_config())


IDS = {"bos_token_id": 1, "eos_token_id": 2, "start_of_image": 3, "end_of_image": 4}


@pytest.mark.parametrize("field, changes", [
    ("special_token_ids", {"model": {"special_token_ids": IDS | {"eos_token_id": "2"}}}),
    ("special_token_ids", {"model": {"special_token_ids": IDS | {"eos_token_id": -2}}}),
    ("special_token_ids", {"model": {"special_token_ids": IDS | {"eos_token_id": 2.5}}}),
    ("interpolate_pos", {"model": {"interpolate_pos": "false"}}),
    ("visual_und", {"model": {"visual_und": "false"}, "vit": VIT}),
    ("rms_norm_eps", {"llm": LLM | {"rms_norm_eps": float("nan")}}),
    ("rope_theta", {"llm": LLM | {"rope_theta": 10**400}}),
    ("num_attention_heads", {"llm": LLM | {"hidden_size": 60, "num_attention_heads": 4}}),
])
def test_values_that_would_be_misread_are_named(field, changes):
    with pytest.raises(ConfigError, match=f"'{field}'"):
        BagelConfig.from_json(**({"llm": LLM} | changes))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"vocab_size": ' + "9" * 5000 + "}", None])
def test_an_unreadable_configuration_is_named(tmp_path, text):
    if text is None:
        (tmp_path / "llm_config.json").mkdir()
    else:
        (tmp_path / "llm_config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"llm_config\.json"):
        BagelConfig.from_directory(tmp_path)
