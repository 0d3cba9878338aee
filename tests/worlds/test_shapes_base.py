"""The tiny model: the released layout, deterministic, with the autoencoder of the trained base."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.worlds.shapes.bases.bagel import base_config, write_base
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.prompts import prompt_text, sample_prompt
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS, vocabulary
from tests.loading import load_bagel


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base") / "tiny", seed=3)


def test_the_directory_has_the_layout_of_a_released_checkpoint(base):
    assert {path.name for path in base.iterdir()} == {
        "ema.safetensors",
        "ae.safetensors",
        "model.safetensors.index.json",
        "llm_config.json",
        "vit_config.json",
        "vae_config.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    index = json.loads((base / "model.safetensors.index.json").read_text())
    tensors = {file: load_file(base / file) for file in ("ema.safetensors", "ae.safetensors")}
    assert index["weight_map"] == {name: file for file in tensors for name in tensors[file]}
    assert index["metadata"]["total_size"] == sum(
        v.nbytes for file in tensors.values() for v in file.values()
    )
    assert BagelConfig.from_directory(base) == base_config()


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_weights(base, tmp_path):
    again, other = write_base(tmp_path / "again", seed=3), write_base(tmp_path / "other", seed=4)
    for path in base.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert (base / "ema.safetensors").read_bytes() != (other / "ema.safetensors").read_bytes()


def test_the_generation_expert_is_a_copy_and_the_output_projection_zero(base):
    tensors = load_file(base / "ema.safetensors")
    twins = [name for name in tensors if "_moe_gen" in name]
    assert len(twins) == 4 * 14 + 1
    for name in twins:
        np.testing.assert_array_equal(tensors[name], tensors[name.replace("_moe_gen", "")])
    assert not tensors["llm2vae.weight"].any()


def test_an_existing_directory_is_left_alone(base):
    with pytest.raises(FileExistsError, match="exists already"):
        write_base(base)


@pytest.mark.slow
def test_the_model_loads_and_its_autoencoder_sees_what_is_drawn(base):
    config, graphdef, state = load_bagel(base)
    assert config == base_config()
    model = nnx.merge(graphdef, state)
    scenes = (sample_example(5, index, 0.4).scene for index in range(16))
    images = jnp.asarray([render(scene, 64).image for scene in scenes], jnp.float32) / 127.5 - 1
    latents = model.vae.sample(model.vae.posterior(images), jnp.zeros(()))
    assert 0.7 < latents.std() < 1.3 and jnp.abs(latents.mean((0, 1, 2))).max() < 1
    assert jnp.abs(model.vae.decode(latents) - images).mean() < 0.1


def test_transformers_loads_the_tokenizer_and_it_knows_every_prompt(base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(base))
    assert len(vocabulary()) <= base_config().llm.vocab_size
    markers = "<|im_start|><|im_end|><|vision_start|><|vision_end|>"
    assert tokenizer.encode(markers) == [
        SPECIAL_TOKENS.bos,
        SPECIAL_TOKENS.eos,
        SPECIAL_TOKENS.start_of_image,
        SPECIAL_TOKENS.end_of_image,
    ]
    for seed in range(200):
        text = prompt_text(sample_prompt(np.random.Generator(np.random.Philox(key=[1, seed]))))
        ids = tokenizer.encode(text)
        assert 0 not in ids and len(ids) == len(text.replace(",", " ,").split())
        assert tokenizer.decode(ids).replace(" ,", ",") == text
    assert tokenizer.encode("a zebra")[-1] == 0
