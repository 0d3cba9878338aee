"""Generation at the released widths, with two layers, compiled for TPUs that are not at hand: what the programs do."""

import dataclasses
import importlib.util
import re

import pytest

from srum_jax.aot.compiling import CompileRequest, compile_program
from srum_jax.aot.hlo import collectives, copies_in_loops, host_calls, instructions
from srum_jax.families.bagel.generation_programs import GenerationShape
from srum_jax.inference.settings import FlowSampler, TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import RELEASED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform"),
]

LAYERS, ROWS, CHIPS = 2, 8, 4
LLM = dataclasses.replace(RELEASED.llm, num_layers=LAYERS)
CONFIG = dataclasses.replace(RELEASED, llm=LLM)
SHAPE = GenerationShape(ROWS, height=512, width=512, sampler=FlowSampler(50), text=TextSampler(1000))
# Bytes, in bfloat16.
LARGEST_MATRIX = 2 * LLM.hidden_size * LLM.intermediate_size
OUTPUT_HEAD = 2 * LLM.hidden_size * LLM.vocab_size
KEYS_OF_A_SLOT = 2 * LAYERS * LLM.num_kv_heads * LLM.head_dim  # of one row, all layers


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Results and texts of the three programs of the language model, by name."""
    found = {}
    for name in ("prefill", "decode", "denoise"):
        path = tmp_path_factory.mktemp("hlo") / name
        request = CompileRequest("v5e:2x2", MeshConfig(data=1, fsdp=CHIPS), CONFIG, name, SHAPE, hlo_file=str(path))
        found[name] = compile_program(request, None), path.read_text()
    return found


def test_no_more_than_one_matrix_of_one_layer_is_gathered_at_a_time(compiled):
    for name, largest in (("prefill", LARGEST_MATRIX), ("decode", OUTPUT_HEAD), ("denoise", LARGEST_MATRIX)):
        result, text = compiled[name]
        assert 0 < result.largest_gather_bytes <= largest, name
        # Nor do all-reduces of zero-padded shards stand in for gathers.
        reduced = [found.num_bytes for found in collectives(text) if found.operation == "all-reduce"]
        assert max(reduced, default=0) < LARGEST_MATRIX / 2, name


def test_each_chip_holds_its_share_of_the_weights_only(compiled):
    values = LAYERS * 2 * 233_058_048 + 2 * LLM.hidden_size * LLM.vocab_size
    small = 3 * 2**30  # vision tower and autoencoder lie on every chip
    for result, _ in compiled.values():
        assert 2 * values / CHIPS < result.state_bytes < 2 * values / CHIPS + small
        assert result.refusal is None


def test_the_cache_is_donated_to_prefill(compiled):
    cache = 2 * KEYS_OF_A_SLOT * SHAPE.prompt_slots * ROWS / CHIPS
    assert compiled["prefill"][0].alias_bytes >= cache


def test_decoding_does_not_copy_the_cache_at_every_token(compiled):
    cache = KEYS_OF_A_SLOT * (SHAPE.prompt_slots + SHAPE.text.max_tokens) * ROWS // CHIPS
    text = compiled["decode"][1]
    assert any(found.num_bytes >= cache for found in instructions(text)), "the loop carries keys of this size"
    # A layer may rearrange its own share; nobody copies that of all layers.
    assert max(found.num_bytes for found in copies_in_loops(text)) <= cache / LAYERS


def test_sampling_talks_to_no_host_and_builds_its_masks_once(compiled):
    result, text = compiled["denoise"]
    assert not result.host_calls and not host_calls(text)
    masks = [found for found in instructions(text) if "pred[" in found.result and found.operation == "copy"
             and found.num_bytes > 2**20]
    assert all(found.in_entry for found in masks)
    # Keys and values of the prompt are read in every step, and none are written.
    keys = re.compile(rf"bf16\[{LAYERS},\d+,\d+,{LLM.num_kv_heads},{LLM.head_dim}\]")
    held = [found for found in instructions(text) if keys.match(found.result)]
    assert held and not [found for found in held if found.operation == "dynamic-update-slice"]


def test_reading_the_prompt_is_no_part_of_sampling(compiled):
    # The embedding table is read for the two markers alone: nothing in the program is as wide as the prompt's tokens.
    rows = 2 * ROWS // CHIPS
    wide = f"[{rows},{SHAPE.prompt_slots},{LLM.hidden_size}]"
    assert wide not in compiled["denoise"][1] and f"[{rows // 2},{SHAPE.prompt_slots},{LLM.hidden_size}]" not in (
        compiled["denoise"][1])
