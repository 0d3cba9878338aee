"""The formulas against XLA's count, where XLA counts everything: one layer, one step, dense attention."""


import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.aot.roofline import roofline
from srum_jax.aot.topology import CHIPS
from srum_jax.families.bagel.costs import BagelCosts
from srum_jax.families.bagel.flow_sampling import guided_steps
from srum_jax.families.bagel.generation_costs import (
    decode_cost,
    denoise_cost,
    generation_costs,
    layer_weights,
    layers_cost,
    pixels_cost,
    prefill_cost,
    reward_costs,
)
from srum_jax.families.bagel.generation_programs import PROGRAMS, latent_grid, program_arguments, prompt_slots
from srum_jax.families.bagel.prefill import text_chunk
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.families.costs import Cost, Drawing
from srum_jax.inference.programs import Program
from srum_jax.models.bagel.config import RELEASED, LanguageConfig
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.layers.parameter import abstract_model
from tests.models.packs import mesh_of, small_config

WIDE = LanguageConfig(64, 128, 384, 1, 4, 2, 1e-6, 1e4, 512)


@pytest.fixture(scope="module")
def one_layer():
    programs, _ = BagelCosts().without_values(small_config(llm=WIDE), mesh_of(1, 1, 1, 1), dtype="float32",
                                              attention="dense")
    return programs


def xla_flops(programs, name, shape):
    return programs.lower(PROGRAMS[name], *program_arguments(programs, name, shape)).compile().cost_analysis()["flops"]


def shape_of(config, **changes):
    side = config.max_latent_size * config.latent_stride
    fields = dict(rows=2, prompt_tokens=30, height=side, width=side, sampler=FlowSampler(2), max_tokens=2)
    return Drawing(**fields | changes)


def test_the_released_configuration_has_the_published_number_of_values():
    _, abstract = abstract_model(Bagel, RELEASED)
    sizes = {}
    for path, variable in nnx.to_flat_state(abstract):
        sizes[path[0]] = sizes.get(path[0], 0) + variable.get_value().size
    assert sum(size for name, size in sizes.items() if name != "vae") == 14_607_260_128
    assert sizes["vae"] == 83_819_683


def test_prefill_costs_what_xla_counts(one_layer):
    shape = shape_of(one_layer.config)
    tokens = prompt_slots(shape)
    # Dense attention computes all pairs, those of the empty context too, where the mask allows half of the new ones.
    dense = layers_cost(one_layer.config.llm, tokens=tokens, context=0, pairs=2 * tokens**2, experts=1)
    # With the hidden states: without them nothing of a last layer but its keys and values would be computed.
    whole = Program(lambda model, compute, context, *arguments: text_chunk(
        model, compute, context, *arguments).added(model, context, compute))
    compiled = one_layer.lower(whole, *program_arguments(one_layer, "prefill", shape)).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(2 * dense.flops, rel=0.05)
    assert prefill_cost(one_layer.config, tokens).flops < dense.flops


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_a_denoising_step_costs_what_xla_counts(one_layer, branches):
    guidance = Guidance(4.0 if branches > 1 else 1.0, 2.0 if branches == 3 else 1.0, (0.0, 1.0))
    sampler = FlowSampler(2, guidance=guidance)
    shape = shape_of(one_layer.config, sampler=sampler)
    contexts = (prompt_slots(shape),) * branches
    ours = denoise_cost(one_layer.config, contexts, math.prod(latent_grid(one_layer.config, shape)), sampler)
    assert xla_flops(one_layer, "denoise", shape) == pytest.approx(2 * ours.flops, rel=0.05)


def test_decoding_pixels_costs_what_xla_counts(one_layer):
    shape = shape_of(one_layer.config, rows=1)
    cells = one_layer.config.max_latent_size * one_layer.config.latent_patch_size
    ours = pixels_cost(one_layer.config.vae, cells, cells)
    assert xla_flops(one_layer, "pixels", shape) == pytest.approx(ours.flops, rel=0.1)


def test_a_decoded_token_costs_what_xla_counts():
    # A vocabulary and widths that dwarf the bookkeeping of a single token.
    llm = LanguageConfig(4096, 256, 1024, 1, 4, 2, 1e-6, 1e4, 512)
    config = small_config(llm=llm)
    programs, _ = BagelCosts().without_values(config, mesh_of(1, 1, 1, 1), dtype="float32", attention="dense")
    shape = shape_of(config, rows=2)
    # XLA sees one iteration, which attends to all slots.
    slots = prompt_slots(shape) + shape.max_tokens
    ours = decode_cost(config, slots, 1)
    assert xla_flops(programs, "decode", shape) == pytest.approx(2 * ours.flops, rel=0.1)


def test_guided_steps_are_those_inside_the_interval():
    assert guided_steps(FlowSampler().of_edits()).sum() == 49
    assert not guided_steps(FlowSampler(guidance=Guidance(1.0))).any()
    times = np.linspace(1, 0, 50)[:-1]
    times = 3 * times / (1 + 2 * times)
    assert guided_steps(FlowSampler()).sum() == (times > 0.4).sum() == 41


def test_work_of_the_released_model_is_that_of_its_weights():
    costs = generation_costs(RELEASED, Drawing(rows=1, max_tokens=1000))
    expert = 28 * 233_058_048  # values of one expert's layers, norms and biases included
    evaluations = 41 * 2 + 8
    linear = 2 * expert * 4096 * evaluations
    assert linear < costs["denoise"].flops < 1.3 * linear
    # A token reads one expert and the output head: 14 GB in bfloat16.
    assert costs["decode"].weight_bytes / 1000 == pytest.approx(2 * (expert + 3584 * 152064), rel=0.001)


def test_branches_of_guidance_share_the_weights_and_nothing_else():
    one, two = (
        denoise_cost(RELEASED, (256, 0)[:count], 4096, FlowSampler(2, guidance=Guidance(scale)))
        for count, scale in ((1, 1.0), (2, 4.0))
    )
    assert one.weight_bytes == two.weight_bytes
    assert two.flops > 1.9 * one.flops


def test_the_roofline_names_what_takes_longest():
    cost = Cost(flops=918e12, activation_bytes=0, weight_bytes=16.4e9, passes=1, summed_values=0)
    chip = CHIPS["v6e"]
    alone = roofline(cost, chip, 4, dict(data=1, fsdp=1, tensor=1))
    assert alone["bound"] == "compute" and alone["seconds"] == pytest.approx(4)
    assert alone["memory"] == pytest.approx(0.01) and alone["exchange"] == 0
    split = roofline(cost, chip, 4, dict(data=1, fsdp=4, tensor=1))
    assert split["compute"] == pytest.approx(1)
    assert split["exchange"] == pytest.approx(0.75 * 16.4e9 / chip.ici_bandwidth)
    assert split["memory"] == pytest.approx(0.01 * 1.75), "what arrives from other chips is written first"
    slow = dataclasses.replace(chip, ici_bandwidth=1e9)
    assert roofline(cost, slow, 4, dict(data=1, fsdp=4, tensor=1))["bound"] == "exchange"


def test_nothing_is_allocated_for_a_description():
    before = len(jax.live_arrays())
    programs, state = BagelCosts().without_values(RELEASED, mesh_of(1, 1, 1, 1), attention="dense")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("bfloat16"), jnp.dtype("float32")}
    assert programs.config is RELEASED and len(jax.live_arrays()) <= before + 1


def test_the_surrogate_costs_a_pass_over_the_picture_for_each_draw_and_the_exact_reward_one():
    few, many = (reward_costs(RELEASED, Drawing(rows=1, prompt_tokens=18, height=512, width=512, draws=draws))
                 for draws in (2, 8))
    passes = denoise_cost(RELEASED, (20,), 32 * 32, FlowSampler(num_timesteps=7, guidance=Guidance(text_scale=1.0)))
    assert many["captions"].flops - few["captions"].flops == pytest.approx(passes.flops)
    assert few["pictures"] == many["pictures"]
    tokens = 37 * 37 + 2 + 20  # patches of 14 pixels, markers, prompt
    assert few["pictures"].flops > 2 * tokens * RELEASED.llm.num_layers * layer_weights(RELEASED.llm)
