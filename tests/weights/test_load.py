"""Loading into sharded arrays, from published and from converted weights."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import qwix
from flax import nnx
from safetensors.numpy import load_file

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.models.layers.quantized import quantize
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.storage.ranges import RangeReader
from srum_jax.weights import safetensors_read
from srum_jax.weights.arrays import PublishedArrays
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from tests.golden import model_cases
from tests.loading import load_bagel
from tests.weights import tiny_checkpoint
from tools.convert_weights.import_ import import_weights


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny_checkpoint.write(tmp_path_factory.mktemp("weights") / "published")


@pytest.fixture(scope="module")
def converted(published):
    import_weights(open_checkpoint(published, BAGEL), published.parent / "converted")
    return published.parent / "converted"


def flat(state):
    return {dotted(path): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def test_values_and_layouts_are_those_of_the_files(published):
    _, _, state = load_bagel(published)
    stored = load_file(published / "ema.safetensors") | load_file(published / "ae.safetensors")
    found = flat(state)
    gate = np.stack(
        [stored[f"language_model.model.layers.{i}.mlp_moe_gen.gate_proj.weight"].T for i in range(3)]
    )
    np.testing.assert_array_equal(found["llm.layers.gen.gate.kernel"], gate.astype(np.float32))
    np.testing.assert_array_equal(
        found["vae.encoder.conv_in.kernel"], stored["encoder.conv_in.weight"].transpose(2, 3, 1, 0)
    )
    assert found["llm.und_norm.scale"].dtype == jnp.float32


def test_the_loaded_state_makes_a_model(published):
    config, graphdef, state = load_bagel(published)
    model = nnx.merge(graphdef, state)
    assert model.config == config and model.llm.layers.gen.gate.kernel[...].shape == (3, 16, 24)


@pytest.fixture(scope="module")
def alone(published):
    return flat(load_bagel(published)[2])


@pytest.mark.parametrize("origin", ["published", "converted"])
@pytest.mark.parametrize("sizes", [(1, 8, 1, 1), (2, 2, 1, 2), (1, 2, 2, 2), (8, 1, 1, 1)])
def test_loading_onto_eight_devices_equals_loading_onto_one(published, converted, alone, origin, sizes):
    source = {"published": published, "converted": converted}[origin]
    mesh = jax.make_mesh(sizes, ("data", "fsdp", "seq", "tensor"))
    spread = flat(load_bagel(source, mesh=mesh)[2])
    if sizes[1] * sizes[2] * sizes[3] > 1:
        assert not spread["llm.layers.gen.gate.kernel"].sharding.is_fully_replicated
    assert alone.keys() == spread.keys()
    for path, array in alone.items():
        assert len(spread[path].sharding.device_set) == 8
        np.testing.assert_array_equal(array, spread[path], err_msg=path)


@pytest.mark.parametrize("integers", ["int8", "int4"])
@pytest.mark.parametrize("origin", ["published", "converted"])
def test_quantized_weights_are_the_same_on_eight_devices_as_on_one(published, converted, alone, origin, integers):
    source = {"published": published, "converted": converted}[origin]
    mesh = jax.make_mesh((1, 2, 2, 2), ("data", "fsdp", "seq", "tensor"))
    one, eight = (flat(load_bagel(source, mesh=mesh, quantize=integers)[2]) for mesh in (None, mesh))
    assert one.keys() == eight.keys() == alone.keys()
    for path, array in alone.items():
        for a, b in zip(jax.tree.leaves(one[path]), jax.tree.leaves(eight[path]), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=path)
        if not isinstance(one[path], qwix.QArray):
            np.testing.assert_array_equal(one[path], array, err_msg=path)
    gate, floats = eight["llm.layers.gen.gate.kernel"], alone["llm.layers.gen.gate.kernel"]
    assert gate.qvalue.dtype == integers and not gate.qvalue.sharding.is_fully_replicated
    for found, expected in zip(jax.tree.leaves(gate), jax.tree.leaves(quantize(floats, integers)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_of_a_matrix_that_is_quantized_one_layer_is_in_memory_in_floats(published, monkeypatch):
    read, sizes = PublishedArrays.read, {}

    def watched(self, parameter, region=None, dtype=None):
        values = read(self, parameter, region, dtype)
        sizes.setdefault(parameter, []).append(values.size)
        return values

    monkeypatch.setattr(PublishedArrays, "read", watched)
    _, _, state = load_bagel(published, quantize="int8", dtype="bfloat16")
    for path, values in flat(state).items():
        if isinstance(values, qwix.QArray):
            layers = values.shape[0]
            assert sizes[path] == [values.qvalue.size // layers] * layers, path
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state)} == {"bfloat16", "int8", "float32"}


def test_converted_and_published_weights_load_equal(published, converted):
    first, second = flat(load_bagel(published)[2]), flat(load_bagel(converted)[2])
    assert first.keys() == second.keys()
    for path, array in first.items():
        np.testing.assert_array_equal(array, second[path], err_msg=path)


@pytest.mark.parametrize("directory", model_cases("bagel"))
def test_golden_weights_load(directory):
    config, _, state = load_bagel(directory)
    stored = load_file(directory / "ema.safetensors")
    found = flat(state)
    last = config.llm.num_layers - 1
    np.testing.assert_array_equal(
        found["llm.layers.und.key.kernel"][last],
        stored[f"language_model.model.layers.{last}.self_attn.k_proj.weight"].T,
    )
    np.testing.assert_array_equal(found["latent_pos_embed.table"], stored["latent_pos_embed.pos_embed"])


def test_dtype_may_be_chosen_for_each_array(published):
    chosen = flat(
        load_bagel(published, dtype=lambda path: "float32" if path.startswith("vae.") else "bfloat16")[2]
    )
    assert chosen["vae.encoder.conv_in.kernel"].dtype == jnp.float32
    assert chosen["llm.embed.embedding"].dtype == jnp.bfloat16
    stored = load_file(published / "ema.safetensors")["language_model.model.embed_tokens.weight"]
    np.testing.assert_array_equal(chosen["llm.embed.embedding"], stored)
    with pytest.raises(WeightsError, match="expected one of float32, bfloat16, found 'int4'"):
        load_bagel(published, dtype="int4")


def test_parts_may_be_left_out(published, converted):
    for source in (published, converted):
        paths = flat(load_bagel(source, ())[2])
        assert {path.split(".")[0] for path in paths} == {
            "llm", "time_embedder", "vae2llm", "llm2vae", "latent_pos_embed"}


def test_position_tables_that_a_checkpoint_lacks_are_computed(tmp_path):
    content = tiny_checkpoint.tensors()
    directory = tiny_checkpoint.write(tmp_path / "source", {
        name: value for name, value in content.items() if not name.endswith("pos_embed.pos_embed")})
    found = flat(load_bagel(directory)[2])
    np.testing.assert_array_equal(found["latent_pos_embed.table"], sincos_table(16, 4))
    np.testing.assert_array_equal(found["vit_pos_embed.table"], sincos_table(16, 2))


def test_a_training_save_without_vision_tower_loads_from_the_file_itself(tmp_path):
    content = tiny_checkpoint.tensors()
    directory = tiny_checkpoint.write(tmp_path / "source", {
        name: value for name, value in content.items() if BAGEL.part_of(name) is None})
    (directory / "ema.safetensors").rename(directory / "model.safetensors")
    (directory / "model.safetensors.index.json").unlink()
    (directory / "ae.safetensors").unlink()
    paths = flat(load_bagel(directory / "model.safetensors", ())[2])
    assert "llm.embed.embedding" in paths
    with pytest.raises(WeightsError, match="vision tower is missing"):
        load_bagel(directory, {"vit"})


def test_a_sharded_load_of_converted_weights_reads_each_byte_once(converted, monkeypatch):
    counted = []
    original = RangeReader.read_into
    monkeypatch.setattr(
        RangeReader,
        "read_into",
        lambda self, buffer, offset: (counted.append(len(buffer)), original(self, buffer, offset))[1],
    )
    monkeypatch.setattr(safetensors_read, "_SHORT_ROW_BYTES", 1)  # rows as long as those of the real model
    mesh = jax.make_mesh((1, 8, 1, 1), ("data", "fsdp", "seq", "tensor"))
    state = load_bagel(converted, mesh=mesh, dtype="bfloat16")[2]
    assert flat(state)["llm.layers.gen.gate.kernel"].sharding.spec[1] == ("fsdp", "seq")
    assert sum(counted) == (converted / "weights-00001-of-00001.safetensors").stat().st_size


def corrupt_shape(directory):
    content = load_file(directory / "ema.safetensors")
    content["llm2vae.weight"] = content["llm2vae.weight"][:, :8]
    tiny_checkpoint.save_file(content, directory / "ema.safetensors")
    return "tensor 'llm2vae.weight': expected shape (16, 16), found (16, 8)"


def remove_file(directory):
    (directory / "ae.safetensors").unlink()
    return "found none; copy ae.safetensors"


def remove_config(directory):
    (directory / "llm_config.json").unlink()
    return "llm_config.json: no such file"


def integer_weights(directory):
    content = load_file(directory / "ema.safetensors")
    content["vae2llm.bias"] = content["vae2llm.bias"].astype(np.int32)
    tiny_checkpoint.save_file(content, directory / "ema.safetensors")
    return "'vae2llm.bias' (1 as I32)"


def tensor_in_both_files(directory):
    content = load_file(directory / "ae.safetensors")
    content["llm2vae.bias"] = np.zeros(16, ml_dtypes.bfloat16)
    tiny_checkpoint.save_file(content, directory / "ae.safetensors")
    return "both hold 'llm2vae.bias'"


def index_with_a_path(directory):
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "../secret.safetensors"}}))
    return "found '../secret.safetensors'"


@pytest.mark.parametrize("damage", [
    corrupt_shape, remove_file, remove_config, integer_weights, tensor_in_both_files, index_with_a_path,
], ids=lambda f: f.__name__)
def test_a_damaged_published_checkpoint_is_refused_with_the_reason(published, tmp_path, damage):
    shutil.copytree(published, tmp_path / "source")
    reason = damage(tmp_path / "source")
    with pytest.raises(ValueError) as caught:
        load_bagel(tmp_path / "source")
    assert reason in str(caught.value) and str(tmp_path) in str(caught.value)


def converted_without_manifest(directory):
    (directory / "srum_weights.json").unlink()
    return "expected ema.safetensors or model.safetensors"


def converted_with_missing_file(directory):
    (directory / "weights-00001-of-00001.safetensors").unlink()
    return "no such file"


def converted_file_cut_off(directory):
    path = directory / "weights-00001-of-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return "is truncated"


def converted_file_of_another_size(directory):
    path = directory / "srum_weights.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["weights-00001-of-00001.safetensors"] += 8
    path.write_text(json.dumps(manifest))
    return "convert again"


def converted_with_other_config(directory):
    (directory / "config.json").write_text(json.dumps(tiny_checkpoint.MODEL | {"max_latent_size": 5}))
    return "array 'latent_pos_embed.table': expected shape (25, 16), found (16, 16)"


def converted_of_another_version(directory):
    path = directory / "srum_weights.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    return "field 'version': expected 1, found 99"


def converted_manifest_of_another_kind(directory):
    (directory / "srum_weights.json").write_text("[]")
    return "field 'format'"


@pytest.mark.parametrize(
    "damage",
    [
        converted_without_manifest,
        converted_with_missing_file,
        converted_file_cut_off,
        converted_file_of_another_size,
        converted_with_other_config,
        converted_of_another_version,
        converted_manifest_of_another_kind,
    ],
    ids=lambda f: f.__name__,
)
def test_damaged_converted_weights_are_refused_with_the_reason(converted, tmp_path, damage):
    shutil.copytree(converted, tmp_path / "source")
    reason = damage(tmp_path / "source")
    with pytest.raises(WeightsError) as caught:
        load_bagel(tmp_path / "source")
    assert reason in str(caught.value) and str(tmp_path) in str(caught.value)


def test_weights_converted_without_a_part_say_so(published, tmp_path):
    import_weights(open_checkpoint(published, BAGEL, {"vae"}), tmp_path / "out")
    load_bagel(tmp_path / "out", {"vae"})
    with pytest.raises(WeightsError, match="converted without its vision tower"):
        load_bagel(tmp_path / "out")
