"""The key-table engine on made-up trees, and BAGEL's own table against the released inventory."""

import math
import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.weights import TABLE
from srum_jax.models.key_table import Ignored, Rule, Table
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.table import SourceTensor, make_plan, published_tensors

F32 = np.dtype(np.float32)


def described(tensors):
    return {
        name: SourceTensor(array.dtype, array.shape, "file.safetensors") for name, array in tensors.items()
    }


@st.composite
def made_up_trees(draw):
    """A table, and targets that it covers: stacked or not, numbered or not, with any permutation of axes."""
    rules, targets = [], {}
    for i in range(draw(st.integers(1, 5))):
        shape = tuple(draw(st.lists(st.integers(1, 4), min_size=0, max_size=4)))
        axes = draw(st.one_of(st.none(), st.permutations(range(len(shape))).map(tuple)))
        stacked = draw(st.booleans())
        numbered = draw(st.booleans())
        block = ".{block}" if numbered else ""
        rules.append(Rule(f"old{i}{block}{'.{layer}' if stacked else ''}.w", f"new{i}{block}.kernel", axes))
        full = (draw(st.integers(1, 3)), *shape) if stacked else shape
        for number in range(draw(st.integers(1, 3)) if numbered else 1):
            targets[f"new{i}{f'.{number}' if numbered else ''}.kernel"] = full
    return Table(tuple(rules)), targets


@settings(max_examples=100, deadline=None)
@given(tree=made_up_trees(), seed=st.integers(0, 2**32 - 1))
def test_made_up_trees_go_to_the_model_and_back_byte_equal(tree, seed):
    table, targets = tree
    rng = np.random.default_rng(seed)
    # All bit patterns, NaNs and infinities among them.
    sources = {
        name: rng.integers(0, 2**16, shape, np.uint16).view(ml_dtypes.bfloat16)
        for name, shape in published_tensors(table, targets).items()
    }
    plan = make_plan(table, described(sources), targets, "made-up")
    assert sorted(plan.by_source()) == sorted(sources)
    arrays = {path: np.zeros(shape, ml_dtypes.bfloat16) for path, shape in targets.items()}
    for path, pieces in plan.pieces.items():
        for piece in pieces:
            place = ... if piece.layer is None else piece.layer
            arrays[path][place] = piece.to_target(sources[piece.source])
    for name, [piece] in plan.by_source().items():
        array = arrays[piece.target] if piece.layer is None else arrays[piece.target][piece.layer]
        assert np.ascontiguousarray(piece.to_source(array)).tobytes() == sources[name].tobytes()


@settings(max_examples=50, deadline=None)
@given(data=st.data(), axes=st.permutations(range(3)).map(tuple))
def test_a_region_of_a_target_comes_from_the_matching_region_of_its_source(data, axes):
    source = np.arange(60.0, dtype=np.float32).reshape(3, 4, 5)
    target_shape = tuple(source.shape[axis] for axis in axes)
    plan = make_plan(Table((Rule("s", "t", axes),)), described({"s": source}), {"t": target_shape}, "made-up")
    [piece] = plan.by_source()["s"]
    region = tuple(slice(*sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in target_shape)
    np.testing.assert_array_equal(
        piece.to_target(source)[region], piece.to_target(source[piece.source_region(region)])
    )


def test_all_problems_are_reported_in_one_error():
    table = Table(
        (
            Rule("a.{layer}.w", "a.kernel", (1, 0)),
            Rule("b", "b"),
            Rule("c", "c"),
            Rule("d", "d"),
            Rule("d2", "d"),
        ),
        (Ignored("known", "not needed"),),
    )
    sources = {
        "a.0.w": SourceTensor(F32, (2, 3), "x.safetensors"),
        "a.1.w": SourceTensor(F32, (3, 2), "x.safetensors"),  # wrong shape
        "b": SourceTensor(np.dtype(np.int32), (4,), "y.safetensors"),  # wrong dtype
        "extra": SourceTensor(F32, (9,), "y.safetensors"),
        "known": SourceTensor(F32, (1,), "y.safetensors"),
        "d": SourceTensor(F32, (1,), "y.safetensors"),
    }
    targets = {"a.kernel": (3, 3, 2), "b": (4,), "c": (5,), "d": (1,), "unheard": (2,)}
    with pytest.raises(WeightsError) as caught:
        make_plan(table, sources, targets, "CHECKPOINT")
    message = str(caught.value)
    for part in (
        "x.safetensors: tensor 'a.1.w': expected shape (2, 3), found (3, 2)",
        "tensor 'a.2.w' is missing: expected shape (2, 3)",
        "y.safetensors: tensor 'b': expected one of BF16, F16, F32, F64, found I32",
        "tensor 'c' is missing: expected shape (5,)",
        "y.safetensors: tensor 'extra' is extra (F32 [9])",
        "'d': expected exactly one rule of the key table, found 'd', 'd2'",
        "'unheard': expected exactly one rule of the key table, found none",
    ):
        assert part in message
    assert "known" not in message
    # Seven above, and 'd', which the ambiguous rule leaves unused.
    assert "CHECKPOINT: does not fit the model: 8 problems" in message


def test_one_source_for_two_targets_is_an_error():
    table = Table((Rule("a", "x"), Rule("a", "y")))
    with pytest.raises(WeightsError, match="'a' would fill x, y"):
        make_plan(table, {"a": SourceTensor(F32, (1,), "f")}, {"x": (1,), "y": (1,)}, "made-up")


def test_numbers_with_leading_zeros_are_no_layers():
    table = Table((Rule("a.{layer}", "x"),))
    with pytest.raises(WeightsError, match=re.escape("'a.00' is extra (F32 [1])")):
        make_plan(table, {"a.00": SourceTensor(F32, (1,), "f")}, {"x": (1, 1)}, "made-up")


def test_ignored_tensors_are_listed_with_the_reason():
    table = Table((Rule("a", "x"),), (Ignored("rope.{layer}.f", "computed"),))
    sources = {"a": SourceTensor(F32, (1,), "f"), "rope.7.f": SourceTensor(F32, (3,), "f")}
    assert make_plan(table, sources, {"x": (1,)}, "made-up").ignored == {"rope.7.f": "computed"}


@pytest.fixture(scope="module")
def released():
    llm = {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
           "num_attention_heads": 28, "num_key_value_heads": 4}
    vit = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
           "image_size": 980, "patch_size": 14}
    shapes = BAGEL.shapes(BagelConfig.from_json(llm=llm, vit=vit), BAGEL.parts)
    return published_tensors(TABLE, shapes)


def test_the_table_gives_the_inventory_of_the_released_checkpoint(released):
    def count(belongs):
        chosen = [shape for name, shape in released.items() if belongs(name)]
        return len(chosen), sum(map(math.prod, chosen))

    assert count(lambda name: BAGEL.part_of(name) != "vae") == (1223, 14_607_260_128)
    assert count(lambda name: BAGEL.part_of(name) == "vae") == (244, 83_819_683)
    assert count(lambda name: name.startswith("language_model."))[1] == 14_141_252_608
    assert count(lambda name: name.startswith("vit_model."))[1] == 402_552_736
    assert count(lambda name: name.startswith("connector."))[1] == 16_980_992
    assert count(lambda name: name.startswith("time_embedder."))[1] == 13_769_728


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("language_model.model.layers.27.self_attn.k_proj_moe_gen.weight", (512, 3584)),
        ("language_model.model.layers.0.mlp_moe_gen.down_proj.weight", (3584, 18944)),
        ("language_model.model.layers.3.self_attn.q_norm_moe_gen.weight", (128,)),
        ("language_model.model.layers.3.post_attention_layernorm_moe_gen.weight", (3584,)),
        ("language_model.model.norm_moe_gen.weight", (3584,)),
        ("time_embedder.mlp.0.weight", (3584, 256)),
        ("vit_model.vision_model.embeddings.patch_embedding.weight", (1152, 588)),
        ("vit_model.vision_model.encoder.layers.25.mlp.fc1.weight", (4304, 1152)),
        ("encoder.conv_out.weight", (32, 512, 3, 3)),
        ("encoder.down.2.downsample.conv.weight", (512, 512, 3, 3)),
        ("decoder.up.1.block.0.nin_shortcut.weight", (256, 512, 1, 1)),
        ("decoder.conv_in.weight", (512, 16, 3, 3)),
    ],
)
def test_released_names_and_shapes_are_those_of_the_description(released, name, shape):
    assert released[name] == shape


def test_every_published_name_of_the_und_expert_has_a_gen_twin(released):
    gen = [name for name in released if "_moe_gen" in name]
    assert len(gen) == 28 * 14 + 1
    for name in gen:
        assert released[name.replace("_moe_gen", "")] == released[name]


def test_a_tensor_may_be_several_arrays_side_by_side_and_have_axes_of_length_one():
    """As fused maps to queries, keys and values are published, and position tables with an axis for the batch."""
    table = Table((
        Rule("qkv.{layer}.weight", "query", (1, 0), share=(0, 2)),
        Rule("qkv.{layer}.weight", "key", (1, 0), share=(1, 2)),
        Rule("position", "position", (1, 2)),
    ))
    targets = {"query": (1, 3, 2), "key": (1, 3, 2), "position": (4, 3)}
    assert published_tensors(table, targets) == {"qkv.0.weight": (4, 3), "position": (1, 4, 3)}
    sources = {"qkv.0.weight": np.arange(12.0).reshape(4, 3), "position": np.arange(12.0).reshape(1, 4, 3)}
    plan = make_plan(table, described(sources), targets, "made-up")
    [query], [key], [position] = (plan.pieces[name] for name in targets)
    np.testing.assert_array_equal(query.to_target(sources["qkv.0.weight"][query.own]), [[0, 3], [1, 4], [2, 5]])
    region = (slice(1, 3), slice(0, 1))  # of the key: its second and third input, its first output
    np.testing.assert_array_equal(key.to_target(sources["qkv.0.weight"][key.source_region(region)]), [[7], [8]])
    np.testing.assert_array_equal(position.to_target(sources["position"]), sources["position"][0])
    assert position.to_source(sources["position"][0]).shape == (1, 4, 3)
