"""Records of the shapes world."""

import dataclasses
import json

import numpy as np
import pytest

from experiments._tiny_records import prepare
from srum_jax.data.errors import DataError
from srum_jax.data.image_transform import decode_image
from srum_jax.data.schema import GlobalStatus, validate
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompts import is_held_out
from srum_jax.worlds.shapes.records import record_of, sample_example, write_records

_PROVENANCE = {"world": {"held_out": False}}


@dataclasses.dataclass(frozen=True)
class _Model:
    checkpoint: str = ""


@dataclasses.dataclass(frozen=True)
class _Data:
    records: str = ""
    mixture: tuple = ()


@dataclasses.dataclass(frozen=True)
class _Experiment:
    seed: int = 0
    model: _Model = _Model()
    data: _Data = _Data()


def test_records_are_valid_and_their_scores_agree_with_their_pixels():
    for index in range(100):
        example = sample_example(0, index, wrong_share=0.5)
        record = validate(record_of(example, index, 64, _PROVENANCE))
        judgement = judge_image(record.prompt, np.asarray(decode_image(record.image_encoded)))
        assert record.global_status == GlobalStatus.OK and record.global_score == judgement.global_score
        assert [(region.box, region.score) for region in record.regions] == [
            (region.box, region.score) for region in judgement.regions
        ]
        assert (record.global_score == 1.0) == (not example.planted)


def test_the_share_of_wrong_images_is_the_one_asked_for():
    planted = [bool(sample_example(1, index, wrong_share=0.4).planted) for index in range(600)]
    assert 0.34 < np.mean(planted) < 0.46
    assert not any(sample_example(1, index, wrong_share=0.0).planted for index in range(50))
    assert all(sample_example(1, index, wrong_share=1.0).planted for index in range(50))


def test_equal_arguments_give_equal_files_and_a_longer_set_starts_with_a_shorter(tmp_path):
    for name, count in (("a", 24), ("b", 24), ("longer", 32)):
        manifest = write_records(tmp_path / name, count, seed=7, num_shards=2)
        assert manifest.num_records == count and manifest.num_shards == 2
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert sample_example(7, 3, 0.4) == sample_example(7, 3, 0.4) != sample_example(8, 3, 0.4)


def test_held_out_records_have_held_out_prompts():
    for index in range(30):
        record = record_of(
            sample_example(0, index, 0.4, held_out=True), index, 64, {"world": {"held_out": True}}
        )
        assert is_held_out(record.prompt) and record.prompt_set == "shapes_held_out"


@pytest.mark.parametrize(
    ("field", "value"), [("num_records", 0), ("wrong_share", 1.5), ("image_size", 16), ("seed", -1)]
)
def test_arguments_outside_their_range_are_refused_by_name(tmp_path, field, value):
    arguments = {"num_records": 4, field: value}
    with pytest.raises(ValueError, match=f"{field}: expected"):
        write_records(tmp_path / "records", **arguments)
    assert not (tmp_path / "records").exists()


def test_prepare_makes_model_and_records_once_and_refuses_other_settings(tmp_path):
    ready = prepare(_Experiment(), tmp_path)
    manifest = tmp_path / "shapes" / "records" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert prepare(_Experiment(), tmp_path) == ready
    assert manifest.stat().st_mtime_ns == before
    assert json.loads(manifest.read_text())["num_records"] == 2048
    with pytest.raises(DataError, match="choose another workdir"):
        prepare(_Experiment(seed=1), tmp_path)
    manifest.write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest .*choose another workdir"):
        prepare(_Experiment(), tmp_path)


def test_prepare_keeps_what_a_run_names_itself_and_makes_nothing_for_it(tmp_path):
    own = _Experiment(model=_Model("weights"), data=_Data("records"))
    assert prepare(own, tmp_path) == own
    assert not (tmp_path / "shapes").exists()
