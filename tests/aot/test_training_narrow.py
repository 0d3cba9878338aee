"""The train step at a narrow width, compiled for 64 chips that are not at hand: how it is spread over them."""

import importlib.util
import json

import pytest

from srum_jax.aot.compiling import compile_apart
from srum_jax.aot.hlo_program import Program, arrays, num_bytes
from srum_jax.aot.train_step import compile_step
from srum_jax.aot.training import TrainRequest
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform"),
]

DATA, FSDP, LAYERS, WIDTH, HIDDEN, VOCABULARY = 2, 32, 4, 1024, 4096, 4096
FILES = {
    "llm_config.json": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
        "tie_word_embeddings": False, "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "max_position_embeddings": 4096,
    },
    "vae_config.json": {
        "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "z_channels": 16,
        "downsample": 2, "scale_factor": 0.3611, "shift_factor": 0.1159,
    },
    "config.json": {
        "model_type": "bagel", "special_token_ids": {"bos_token_id": 4092, "eos_token_id": 4093,
                                                     "start_of_image": 4094, "end_of_image": 4095},
    },
}
STRIDE = 2 * 2  # pixels of a latent token: two cells of two
SIDE = 32  # pixels
LATENTS = (SIDE // STRIDE) ** 2  # of an image
MATRIX = 2 * WIDTH * HIDDEN  # bytes of the largest matrix of a layer, in bfloat16
# Query and output, key and value, gate, up and down; of two experts.
LAYER_VALUES = 2 * (2 * WIDTH**2 + 2 * WIDTH * WIDTH // 4 + 3 * WIDTH * HIDDEN)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What was found about the step, and the compiled program."""
    folder = tmp_path_factory.mktemp("narrow")
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))
    sizes = {name: SIDE for name in ("image_height", "image_width", "max_size", "min_size")}
    sizes |= {"stride": STRIDE, "latent_capacity": 2 * LATENTS}
    request = TrainRequest(
        "v5p:4x4x4", "bagel_cot", tuple(f"rows.{name}={size}" for name, size in sizes.items()),
        MeshConfig(data=DATA, fsdp=FSDP), checkpoint=str(folder), hlo_file=str(folder / "step"))
    return compile_apart(compile_step, request, None), Program((folder / "step").read_text())


def test_weight_gradients_leave_as_reduce_scatters(compiled):
    rows = [row for row in compiled[0].collectives if row["in_loop"]]
    scattered = [row for row in rows if row["kind"] == "reduce-scatter" and row["over"] == ["fsdp"]]
    # Gradients of all matrices of all layers, perhaps several at once, perhaps padded to tiles.
    total = sum(row["bytes"] * row["executions"] for row in scattered)
    assert total >= 0.9 * 2 * LAYERS * LAYER_VALUES
    whole = [row for row in rows if row["kind"] == "all-reduce" and row["bytes"] >= MATRIX / 4]
    assert not whole, "a gradient of a whole matrix is summed on every chip"


def test_nothing_larger_than_a_matrix_of_one_layer_is_gathered(compiled):
    gathered = [row for row in compiled[0].collectives if row["kind"] == "all-gather" and row["in_loop"]]
    assert gathered and max(row["bytes"] for row in gathered) <= MATRIX
    for row in compiled[0].collectives:
        assert row["bytes"] <= 4 * VOCABULARY * WIDTH, "more than the embedding table is exchanged at once"


def test_no_chip_holds_more_than_its_share_of_a_stack_of_weights(compiled):
    _, program = compiled
    stack = LAYERS * WIDTH * HIDDEN
    for computation, ops in program.computations.items():
        if program.executions[computation]:
            for op in ops:
                whole = [shape for dtype, shape in arrays(op.result) if num_bytes(dtype, shape) >= 2 * stack
                         and sorted(shape)[-2:] == [WIDTH, HIDDEN] and shape[0] == LAYERS]
                assert not whole, f"{op.name} is a whole stack of weights: {whole[0]}"


def test_the_state_is_split_and_donated(compiled):
    memory = compiled[0].memory
    state = 12 * compiled[0].parameters  # float32: parameters and two moments
    assert memory.alias_bytes >= 0.95 * state / FSDP
    assert memory.argument_bytes <= 1.3 * state / FSDP + 2**26, "something large is replicated"


def test_the_program_is_understood_and_does_not_compute_much_twice(compiled):
    found = compiled[0]
    assert not found.unknown_loops and not found.unknown_kernels
    chips = DATA * FSDP
    # Narrow layers have relatively more of what the targets allow for: text and the autoencoder.
    layers = sum(flops for name, flops in found.flops_by_origin.items() if name.startswith("layers"))
    tokens = 128 + 2 * LATENTS  # slots of a row
    forward = 2 * LAYERS * LAYER_VALUES / 2 * tokens
    assert 3.5 * forward <= layers <= 4.0 * forward
    # Text fills one block, latents another. Products: of two forward passes, backwards to queries, to keys and values.
    padded = 2 * ComputeConfig().attention_block
    assert found.attention_flops == (2 + 2 + 3 + 4) * LAYERS * 2 * padded**2 * WIDTH
    assert (found.compiled_flops - found.attention_flops) * chips / found.model_flops < 1.9
