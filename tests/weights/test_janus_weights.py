"""Janus-Pro's key tables against the tiny case and the released sizes."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.weights import COMMUNITY_TABLE
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.table import SourceTensor, make_plan, published_tensors
from tests.golden import HERE
from tests.models.test_janus_config import COMMUNITY_TINY, released
from tools.convert_weights.export import export_weights
from tools.convert_weights.import_ import import_weights
from tools.convert_weights.unpickle import unpickle

CASE = HERE / "janus" / "tiny_a"
WEIGHTS = "model.safetensors"


def linked(tmp_path):
    case = tmp_path / "case"
    case.mkdir()
    for name in (WEIGHTS, "config.json", "siglip_config.json", "vq_config.json", "tokens.json"):
        (case / name).write_bytes((CASE / name).read_bytes())
    return case


def community(tmp_path):
    """The case in the layout for transformers, written by the key table."""
    arrays = open_checkpoint(CASE, JANUS_PRO).arrays
    names = published_tensors(COMMUNITY_TABLE, arrays.shapes)
    plan = make_plan(COMMUNITY_TABLE, {name: SourceTensor(np.dtype(np.float32), shape, "f")
                                       for name, shape in names.items()}, arrays.shapes, "made-up")
    tensors = {}
    for path, pieces in plan.pieces.items():
        values = arrays.read(path)
        for piece in pieces:
            own = values if piece.layer is None else values[piece.layer]
            tensors[piece.source] = np.ascontiguousarray(piece.to_source(own))
    case = linked(tmp_path)
    save_file(tensors, case / WEIGHTS)
    (case / "config.json").write_text(json.dumps(COMMUNITY_TINY))
    return case


def test_weights_come_back_byte_equal_from_either_layout(tmp_path):
    for number, case in enumerate((CASE, community(tmp_path))):
        template = open_checkpoint(case, JANUS_PRO)
        import_weights(template, tmp_path / f"converted{number}")
        export_weights(tmp_path / f"converted{number}", template, tmp_path / f"exported{number}")
        before, after = load_file(case / WEIGHTS), load_file(tmp_path / f"exported{number}" / WEIGHTS)
        assert before.keys() == after.keys()
        assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_both_layouts_make_the_same_model(tmp_path):
    original, other = open_checkpoint(CASE, JANUS_PRO), open_checkpoint(community(tmp_path), JANUS_PRO)
    assert original.config == other.config
    for name in ("vision.layers.key.kernel", "vision.position_embed.embedding", "vq.decoder.up.0.attn.1.q.kernel"):
        np.testing.assert_array_equal(original.arrays.read(name), other.arrays.read(name))


def test_an_export_of_the_tower_alone_in_part_takes_the_rest_of_a_fused_tensor_from_the_template(tmp_path):
    """Of the tower's maps to queries, keys and values, one tensor in the file, only the keys were trained."""
    template = open_checkpoint(CASE, JANUS_PRO)
    import_weights(template, tmp_path / "converted")
    manifest = json.loads((tmp_path / "converted" / "srum_weights.json").read_text())
    [home] = {manifest["tensors"]["vision.layers.key.kernel"]}
    key = load_file(tmp_path / "converted" / home)["vision.layers.key.kernel"]
    name = "vision_model.vision_tower.blocks.1.attn.qkv.weight"
    changed = {"vision.layers.key.kernel": key + np.asarray(1, key.dtype)}
    directory = tmp_path / "trained"
    directory.mkdir()
    for path in (tmp_path / "converted").iterdir():
        if not path.name.endswith(".safetensors") and path.name != "srum_weights.json":
            (directory / path.name).write_bytes(path.read_bytes())
    save_file(changed, directory / home)
    manifest["tensors"] = {"vision.layers.key.kernel": home}
    manifest["files"] = {home: (directory / home).stat().st_size}
    (directory / "srum_weights.json").write_text(json.dumps(manifest))
    export_weights(directory, template, tmp_path / "exported")
    before, after = (load_file(path / WEIGHTS)[name] for path in (CASE, tmp_path / "exported"))
    third = len(before) // 3
    assert np.array_equal(before[:third], after[:third]) and np.array_equal(before[2 * third :], after[2 * third :])
    np.testing.assert_array_equal(after[third : 2 * third], changed["vision.layers.key.kernel"][1].T)


def test_the_authors_pickled_shards_are_read_by_the_safe_route(tmp_path):
    torch = pytest.importorskip("torch")
    case, pickled = linked(tmp_path), tmp_path / "pickled"
    pickled.mkdir()
    tensors = load_file(case / WEIGHTS)
    names = sorted(tensors)
    for number, part in enumerate((names[:100], names[100:]), start=1):
        own = {name: torch.from_numpy(tensors[name].astype(np.float32)).bfloat16() for name in part}
        torch.save(own, pickled / f"pytorch_model-0000{number}-of-00002.bin")
    unpickle(pickled, tmp_path / "unpickled")
    for path in case.glob("*.json"):
        (tmp_path / "unpickled" / path.name).write_bytes(path.read_bytes())
    found, expected = (open_checkpoint(path, JANUS_PRO).arrays for path in (tmp_path / "unpickled", case))
    for name in expected.shapes:
        assert np.array_equal(found.read(name).view(np.uint16), expected.read(name).view(np.uint16))


def test_unused_tensors_are_left_out_with_a_reason_and_an_unknown_one_refused(tmp_path):
    case = linked(tmp_path)
    tensors = load_file(case / WEIGHTS)
    unused = {"vision_model.vision_tower.attn_pool.latent": np.zeros(1, np.float32),
              "gen_vision_model.quantize.codebook_used": np.zeros(1, np.float32)}
    save_file({**tensors, **unused}, case / WEIGHTS)
    assert unused.keys() <= open_checkpoint(case, JANUS_PRO).published.plan.ignored.keys()
    save_file({**tensors, "gen_head.unknown": np.zeros(1, np.float32)}, case / WEIGHTS)
    with pytest.raises(WeightsError, match=r"gen_head\.unknown"):
        open_checkpoint(case, JANUS_PRO)


@pytest.mark.parametrize("size, total", [("1B", 2_089_232_011), ("7B", 7_420_368_523)])
def test_released_models_have_the_published_numbers_of_parameters(size, total):
    pool = 12_595_200  # the tower's pooling head, which the files hold and nothing uses
    shapes = JANUS_PRO.shapes(JanusConfig.from_json(released(size)), JANUS_PRO.parts)
    assert sum(map(math.prod, shapes.values())) + pool == total
