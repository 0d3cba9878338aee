import types

import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.families.bagel.step_flops import PackCounts, count_pack, step_flops
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import RELEASED
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.logical_axes import shapes_by_name
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.token_stream import TokenStream
from srum_jax.observability.peak_flops import peak_flops
from srum_jax.training.config import LoraConfig
from srum_jax.training.lora import attach_factors
from tests.models.packs import random_batch, random_stream, small_config


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_that_the_attention_mask_allows(seed):
    stream = random_stream(np.random.default_rng(seed), rows=2, length=60)
    empty = np.zeros((2, 0), np.int32)
    batch = types.SimpleNamespace(text=stream, vit=TokenStream(*[empty] * 6), latent=TokenStream(*[empty] * 6),
                                  ce_weights=empty)
    real = np.asarray(stream.sample) >= 0
    mask = np.asarray(allowed(*(TokenStream(*(jnp.asarray(getattr(stream, f)) for f in stream.__dataclass_fields__))
                                for _ in range(2))))
    expected = int(np.sum(mask & real[:, :, None] & real[:, None, :]))
    assert count_pack(batch).pairs == expected
    assert count_pack(batch).und_tokens == int(real.sum())


@pytest.mark.parametrize("seed", range(3))
def test_pairs_do_not_depend_on_the_buffer_in_which_a_token_lies(seed):
    rng = np.random.default_rng(seed)
    whole = random_stream(rng, rows=2, length=60)
    arrays = {name: np.asarray(getattr(whole, name)) for name in whole.__dataclass_fields__}
    places = rng.permutation(60)
    parts = [TokenStream(**{name: value[:, part] for name, value in arrays.items()})
             for part in np.split(places, [15, 35])]
    none = np.zeros((2, 0), np.int32)
    found = count_pack(types.SimpleNamespace(text=parts[0], vit=parts[1], latent=parts[2], ce_weights=none))
    mask = np.asarray(allowed(whole, whole))
    real = arrays["sample"] >= 0
    assert found.pairs == int(np.sum(mask & real[:, :, None] & real[:, None, :]))
    assert found.und_tokens + found.gen_tokens == int(real.sum())
    assert found.vit_tokens == int((parts[1].sample >= 0).sum())


def test_a_text_to_image_row_is_counted_by_hand():
    batch = random_batch(small_config(), rows=1)
    words = int(np.sum(batch.text.sample >= 0)) - 2
    image = 16 + 2
    counts = count_pack(batch)
    assert (counts.und_tokens, counts.gen_tokens) == (words + 2, 16)
    assert counts.pairs == words * (words + 1) // 2 + image * (words + image)


def test_the_released_model_takes_six_flops_for_each_weight_of_a_tokens_expert():
    # One expert's layer has 233,058,048 values, of which norms and biases are no matrices (spec of the checkpoint).
    matrices = 233_058_048 - 2 * 3584 - 2 * 128 - (3584 + 2 * 512)
    tokens = PackCounts(und_tokens=100, gen_tokens=0, vit_tokens=0, text_predictions=0, pairs=0)
    assert step_flops(RELEASED, tokens) == 6 * 100 * 28 * matrices
    pairs = PackCounts(0, 0, 0, 0, pairs=1000)
    assert step_flops(RELEASED, pairs) == 12 * 1000 * 28 * 3584, "12 x heads x head width a pair and layer"


def test_weights_that_are_not_trained_take_no_gradient_and_factors_come_on_top():
    config = small_config(vit=None)
    counts = PackCounts(und_tokens=10, gen_tokens=100, vit_tokens=0, text_predictions=3, pairs=50)
    graphdef, state = abstract_model(Bagel, config)
    everything = shapes_by_name(state)
    assert step_flops(config, counts, everything) == step_flops(config, counts)
    llm = config.llm
    layer = 2 * llm.hidden_size * (llm.hidden_size + 32) + 3 * llm.hidden_size * llm.intermediate_size
    expert = {name: shape for name, shape in everything.items() if name.startswith("llm.layers.gen.")}
    saved = 10 * 3 * layer + 100 * 2 * config.latent_values * llm.hidden_size + 3 * llm.hidden_size * llm.vocab_size
    assert step_flops(config, counts) - step_flops(config, counts, expert) == 2 * saved
    factors = shapes_by_name(attach_factors(graphdef, state, LoraConfig(rank=4, targets=("gate", "llm2vae")), BAGEL)[1])
    added = 100 * 4 * (3 * (llm.hidden_size + llm.intermediate_size) + llm.hidden_size + config.latent_values)
    expected = step_flops(config, counts) - 2 * (saved + 100 * 3 * layer) + 6 * added
    assert step_flops(config, counts, factors) == expected


def test_the_peak_is_known_by_the_kind_of_the_devices():
    devices = [types.SimpleNamespace(device_kind="TPU v5p")] * 4
    assert peak_flops(devices) == 4 * 459e12
    assert peak_flops([types.SimpleNamespace(device_kind="NVIDIA H100 PCIe")]) == 756e12
    assert peak_flops([types.SimpleNamespace(device_kind="cpu")]) is None
