"""Generation at the released widths, with two layers, compiled for TPUs that are not at hand: what the programs do."""

import dataclasses
import importlib.util
import re

import pytest

from srum_jax.aot.compiling import compile_apart
from srum_jax.aot.drawing_program import DrawingRequest, compile_program
from srum_jax.aot.hlo_collectives import MeshOfChips, collectives
from srum_jax.aot.hlo_program import Program, arrays, num_bytes
from srum_jax.families.costs import Drawing
from srum_jax.families.registry import family
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import RELEASED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform"),
]

LAYERS, ROWS, CHIPS = 2, 4, 4
CHIPS_OF_MESH = MeshOfChips({"data": 1, "fsdp": CHIPS, "seq": 1, "tensor": 1})
LLM = dataclasses.replace(RELEASED.llm, num_layers=LAYERS)
DRAWING = Drawing(ROWS, height=320, width=256)  # with more latents than there are slots for a prompt
SLOTS = family("bagel").costs.prompt_slots(DRAWING)
LATENTS = DRAWING.height * DRAWING.width // RELEASED.latent_stride**2  # of a picture
# Bytes, in bfloat16.
LARGEST_MATRIX = 2 * LLM.hidden_size * LLM.intermediate_size
OUTPUT_HEAD = 2 * LLM.hidden_size * LLM.vocab_size
KEYS_OF_A_SLOT = 2 * LAYERS * LLM.num_kv_heads * LLM.head_dim  # of one row, all layers


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Results, programs and their texts, of the three programs of the language model, by name."""
    found = {}
    for name in ("prefill", "decode", "denoise"):
        path = tmp_path_factory.mktemp("hlo") / name
        request = DrawingRequest("v5e:2x2", MeshConfig(data=1, fsdp=CHIPS), "bagel", name, DRAWING, layers=LAYERS,
                                 hlo_file=str(path))
        result, text = compile_apart(compile_program, request, None), path.read_text()
        found[name] = result, Program(text), text
    return found


def largest(op):
    """Bytes of an instruction's largest result."""
    return max((num_bytes(*array) for array in arrays(op.result)), default=0)


def ops(program, *, in_entry=None):
    """All instructions, or those of the entry computation, or all others."""
    return [op for name, found in program.computations.items() for op in found
            if in_entry is None or in_entry == (name == program.entry)]


def test_no_more_than_one_matrix_of_one_layer_is_gathered_at_a_time(compiled):
    for name, most in (("prefill", LARGEST_MATRIX), ("decode", OUTPUT_HEAD), ("denoise", LARGEST_MATRIX)):
        result, program, _ = compiled[name]
        assert 0 < result.largest_gather_bytes <= most, name
        # Nor do all-reduces of zero-padded shards stand in for gathers.
        reduced = [found.num_bytes for found in collectives(program, CHIPS_OF_MESH) if found.kind == "all-reduce"]
        assert max(reduced, default=0) < LARGEST_MATRIX / 2, name


def test_each_chip_holds_its_share_of_the_weights_only(compiled):
    values = LAYERS * 2 * 233_058_048 + 2 * LLM.hidden_size * LLM.vocab_size
    small = 3 * 2**30  # vision tower and autoencoder lie on every chip
    for result, *_ in compiled.values():
        assert 2 * values / CHIPS < result.memory.state_bytes < 2 * values / CHIPS + small
        assert result.memory.refusal is None


def test_the_cache_is_donated_to_prefill(compiled):
    cache = 2 * KEYS_OF_A_SLOT * SLOTS * ROWS / CHIPS
    assert compiled["prefill"][0].memory.alias_bytes >= cache


def test_decoding_does_not_copy_the_cache_at_every_token(compiled):
    cache = KEYS_OF_A_SLOT * (SLOTS + DRAWING.max_tokens) * ROWS // CHIPS
    program = compiled["decode"][1]
    assert any(largest(op) >= cache for op in ops(program)), "the loop carries keys of this size"
    # A layer may rearrange its own share; nobody copies that of all layers.
    assert max(largest(op) for op in ops(program, in_entry=False) if op.operation == "copy") <= cache / LAYERS


def test_sampling_talks_to_no_host_and_builds_its_masks_once(compiled):
    result, program, _ = compiled["denoise"]
    assert not result.host_calls
    assert not [op for op in ops(program, in_entry=False) if op.operation == "copy" and "pred[" in op.result
                and largest(op) >= LATENTS**2], "no mask is copied within a loop"
    # Keys and values of the prompt are read in every step, and none are written.
    keys = re.compile(rf"bf16\[{LAYERS},\d+,\d+,{LLM.num_kv_heads},{LLM.head_dim}\]")
    held = [op for op in ops(program) if keys.match(op.result)]
    assert held and not [op for op in held if op.operation == "dynamic-update-slice"]


def test_reading_the_prompt_is_no_part_of_sampling(compiled):
    # The embedding table is read for the two markers alone: nothing in the program is as wide as the prompt's tokens.
    rows = 2 * ROWS // CHIPS
    wide = f"[{rows},{SLOTS},{LLM.hidden_size}]"
    assert wide not in compiled["denoise"][2] and f"[{rows // 2},{SLOTS},{LLM.hidden_size}]" not in (
        compiled["denoise"][2])
