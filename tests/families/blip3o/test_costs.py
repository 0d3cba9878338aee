"""What work amounts to, by formula and by counting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import stack_rows
from srum_jax.errors import BadInput
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.costs import Blip3oCosts
from srum_jax.families.costs import Drawing
from srum_jax.families.counted_costs import products
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.released import RELEASED
from tests.families.blip3o.test_rows import MODEL, drawing, filled, packer, reading

COSTS = Blip3oCosts()
SHAPES = BLIP3O.shapes(MODEL, ())


def batch(*examples):
    return stack_rows([filled(*examples, of=packer())])


@pytest.mark.slow
@pytest.mark.parametrize("name, language, dit, queries", [
    ("4B", 3_085_389_824, 1_362_257_824, 131_072), ("8B", 7_069_199_872, 1_365_010_336, 229_376)])
def test_the_released_models_have_as_many_parameters_as_published(name, language, dit, queries):
    shapes = BLIP3O.shapes(COSTS.config(name), BLIP3O.parts)

    def count(*starts):
        return sum(int(np.prod(shape)) for path, shape in shapes.items() if path.startswith(starts))

    assert count("llm.") - count("llm.lm_head") == language and count("dit.") == dit and count("queries.") == queries
    assert count("eva.") == 4_350_208_256 and count("decoder.unet.") == 2_525_520_644
    assert COSTS.config("") == RELEASED["8B"]


def test_a_step_is_products_forward_and_backward_where_something_is_trained():
    one = batch(drawing())
    text, cells = int(one.first_query[0, 0]) + MODEL.num_queries, MODEL.dit.grid**2
    layers = sum(np.prod(shape) for name, shape in SHAPES.items() if name.startswith("llm.layers") and "kernel" in name)
    everything = COSTS.step_flops(MODEL, one)
    frozen_queries = COSTS.step_flops(MODEL, one, {name: s for name, s in SHAPES.items() if name.startswith("dit.")})
    attended = MODEL.num_queries * (text - MODEL.num_queries) + MODEL.num_queries * (MODEL.num_queries + 1) / 2
    width = MODEL.llm.hidden_size * MODEL.llm.num_layers
    assert everything - frozen_queries == 2 * layers * MODEL.num_queries + 8 * attended * width
    without_out = {name: s for name, s in SHAPES.items() if name.startswith("dit.") and name != "dit.out.kernel"}
    assert frozen_queries - COSTS.step_flops(MODEL, one, without_out) == 2 * np.prod(SHAPES["dit.out.kernel"]) * cells


def test_padding_costs_nothing_and_samples_add_up():
    one, other, both = batch(drawing()), batch(drawing("two blue squares")), batch(
        drawing(), drawing("two blue squares"))
    assert COSTS.step_flops(MODEL, both) == pytest.approx(
        COSTS.step_flops(MODEL, one) + COSTS.step_flops(MODEL, other))
    assert COSTS.step_flops(MODEL, batch()) == 0
    assert COSTS.step_flops(MODEL, batch(drawing(), reading())) > COSTS.step_flops(MODEL, one)


def test_factors_of_lora_cost_three_products_and_save_their_matrices_gradient():
    one = batch(drawing())
    factors = {"dit.layers.gate.lora_a": (2, 32, 4), "dit.layers.gate.lora_b": (2, 4, 96)}
    cells = MODEL.dit.grid**2
    assert COSTS.step_flops(MODEL, one, factors) - COSTS.step_flops(MODEL, one, {"dit.patch_embed.bias": (32,)}) == (
        6 * cells * (2 * 32 * 4 + 2 * 4 * 96))


def test_a_full_row_holds_what_it_has_room_for():
    row = COSTS.full_row(Blip3oRows(samples_per_row=2, text_capacity=192), RELEASED["8B"], 18, block=0, seq=1)
    assert row.tokens == 2 * (18 + 30 + 65 + 64)
    assert row.padding == pytest.approx(1 - row.tokens / (2 * (192 + 64)))
    with pytest.raises(CapacityError, match=r"rows\.text_capacity"):
        COSTS.full_row(Blip3oRows(text_capacity=128), RELEASED["8B"], 100, block=0, seq=1)


def test_products_are_counted_as_often_as_loops_turn():
    def function(x, kernel):
        x = jax.lax.scan(lambda x, _: (x @ kernel, None), x, None, length=5)[0]
        return jax.lax.conv(x[None, None], jnp.ones((7, 1, 3, 3)), (1, 1), "SAME")

    flops, num_bytes = products(jax.make_jaxpr(function)(jnp.ones((4, 8)), jnp.ones((8, 8))))
    assert flops == 5 * 2 * 4 * 8 * 8 + 2 * 9 * 7 * 4 * 8
    assert num_bytes == 4 * (5 * (32 + 32) + 32 + 7 * 32)


@pytest.mark.slow
def test_generation_names_a_cost_for_each_program_and_refuses_what_it_cannot_draw():
    costs = COSTS.drawing_costs(MODEL, Drawing(rows=1, prompt_tokens=8, height=64, width=64, num_timesteps=2))
    assert set(costs) == set(COSTS.drawn_by) >= {*COSTS.search_order, *COSTS.image_programs, COSTS.text_program}
    assert all(cost.flops > 0 and cost.weight_bytes > 0 for cost in costs.values())
    twice = COSTS.drawing_costs(MODEL, Drawing(rows=1, prompt_tokens=8, height=64, width=64, num_timesteps=4))
    assert twice["latents"].flops == 2 * costs["latents"].flops
    for wrong in ({"editing": True}, {"height": 1000}, {"width": 2048}):
        with pytest.raises(BadInput):
            COSTS.check(RELEASED["8B"], dataclasses.replace(Drawing(rows=1), **wrong))
