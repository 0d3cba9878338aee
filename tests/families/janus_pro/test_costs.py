"""What work amounts to, by formula and by counting."""

import dataclasses

import numpy as np
import pytest

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import stack_rows
from srum_jax.errors import BadInput
from srum_jax.families.costs import Drawing
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.costs import JanusCosts
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.config import JanusConfig
from tests.families.janus_pro.test_rows import MODEL, drawing, filled, reading
from tests.models.test_janus_config import released

COSTS = JanusCosts()
SHAPES = JANUS_PRO.shapes(MODEL, {"vision"})
DRAWING = Drawing(rows=1, prompt_tokens=8, height=48, width=48, max_tokens=10)


def batch(*examples):
    return stack_rows([filled(*examples)])


def size(start):
    return sum(np.prod(shape) for name, shape in SHAPES.items() if name.startswith(start) and name.endswith("kernel"))


@pytest.mark.parametrize("name", ["1B", "7B"])
def test_the_released_models_are_those_of_the_published_files(name):
    assert COSTS.config(name) == JanusConfig.from_json(released(name))
    assert COSTS.config("") == COSTS.config("7B")


def test_a_step_of_a_drawing_is_six_flops_per_weight_and_token_and_its_attention():
    one = batch(drawing())
    codes = MODEL.vq.num_codes
    tokens = int(one.length[0, 0]) + codes - 1
    expected = 6 * (size("llm.layers.") * tokens + size("gen_head.") * codes + size("gen_aligner.") * (codes - 1))
    attention = 12 * MODEL.llm.num_layers * MODEL.llm.hidden_size * tokens * (tokens + 1) / 2
    assert COSTS.step_flops(MODEL, one) == expected + attention


def test_a_reading_runs_the_tower_forward_and_backward_where_it_is_trained():
    one = batch(reading())
    everything = {name: shape for name, shape in SHAPES.items() if name.endswith("kernel")}
    seen = 4 * MODEL.vision.num_tokens**2 * MODEL.vision.hidden_size * MODEL.vision.num_layers
    assert COSTS.step_flops(MODEL, one, everything) - COSTS.step_flops(MODEL, one) == (
        2 * size("vision.") * MODEL.vision.num_tokens + 2 * seen)


def test_padding_costs_nothing_and_samples_add_up():
    one, other, both = batch(drawing()), batch(reading()), batch(drawing(), reading())
    assert COSTS.step_flops(MODEL, both) == pytest.approx(
        COSTS.step_flops(MODEL, one) + COSTS.step_flops(MODEL, other))
    assert COSTS.step_flops(MODEL, batch()) == 0


def test_factors_of_lora_cost_three_products_and_save_their_matrices_gradient():
    factors = {"gen_head.fc1.lora_a": (64, 4), "gen_head.fc1.lora_b": (4, 48)}
    one = batch(drawing())
    assert COSTS.step_flops(MODEL, one, factors) - COSTS.step_flops(MODEL, one, {"gen_head.fc1.bias": (48,)}) == (
        6 * MODEL.vq.num_codes * (64 * 4 + 4 * 48))


def test_a_full_row_holds_what_it_has_room_for():
    rows = JanusRows(samples_per_row=2, text_capacity=128)
    row = COSTS.full_row(rows, COSTS.config("1B"), 20, block=0, seq=1)
    assert row.tokens == 2 * (20 + 8 + 575)
    assert row.padding == pytest.approx(100 / (128 + 575))
    with pytest.raises(CapacityError, match=r"rows\.text_capacity"):
        COSTS.full_row(rows, COSTS.config("1B"), 121, block=0, seq=1)


def test_generation_names_a_cost_for_each_program_and_refuses_what_it_cannot_draw():
    costs = COSTS.drawing_costs(MODEL, DRAWING)
    assert set(costs) == set(COSTS.drawn_by) >= {*COSTS.search_order, *COSTS.image_programs, COSTS.text_program}
    assert all(cost.flops > 0 and cost.weight_bytes > 0 for cost in costs.values())
    rows = 2 * (COSTS.prompt_slots(DRAWING) + MODEL.vq.num_codes - 1)  # with the text and without
    least = 2 * rows * size("llm.layers.") + 2 * 2 * MODEL.vq.num_codes * size("gen_head.")
    assert least < costs["codes"].flops < 1.5 * least
    for wrong in ({"editing": True}, {"height": 1024}, {"width": 24}):
        with pytest.raises(BadInput):
            COSTS.check(MODEL, dataclasses.replace(DRAWING, **wrong))


def test_a_reward_is_one_pass_over_what_is_scored():
    costs = COSTS.reward_costs(MODEL, dataclasses.replace(DRAWING, draws=8))
    layers, codes = size("llm.layers."), MODEL.vq.num_codes
    for name, tokens in (("pictures", MODEL.vision.num_tokens + DRAWING.prompt_tokens),
                         ("captions", COSTS.prompt_slots(DRAWING) + codes - 1)):
        assert costs[name].flops > 2 * tokens * layers and costs[name].passes == 1
    assert costs == COSTS.reward_costs(MODEL, dataclasses.replace(DRAWING, draws=1))  # exact: nothing is drawn
