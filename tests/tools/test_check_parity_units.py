import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import HERE
from tools.check_parity import rewards, units
from tools.check_parity.__main__ import main
from tools.check_parity.result import GroupResult, Unchecked


def failed(results):
    return {result.name for result in results if isinstance(result, GroupResult) and not result.ok}


def not_checked(results):
    return {result.name for result in results if isinstance(result, Unchecked)}


@pytest.fixture
def case(tmp_path):
    shutil.copytree(HERE / "bagel" / "units", tmp_path / "units")
    return tmp_path / "units"


def test_every_unit_of_the_reference_is_reproduced():
    folder = HERE / "bagel" / "units"
    results = units.check(folder)
    assert failed(results) == set()
    assert not_checked(results) == set()
    assert sum(result.num_compared for result in results if isinstance(result, GroupResult)) > 700


def test_every_reward_map_of_the_reference_is_reproduced():
    results = rewards.check(HERE / "bagel" / "rewards")
    assert failed(results) == set()
    assert not_checked(results) == set()
    assert {"judge_replies.json", "detailed_prompt.json"} <= {r.name for r in results if isinstance(r, GroupResult)}


@pytest.mark.parametrize(("file", "change", "code", "message"), [
    # What the authors' loader and formatter make of these: a record is dropped, a region without a box is passed over.
    ("training_records.json", lambda cases: cases[0].update(record={"image_file": "a.png", "vlm_rewards": None},
                                                            result=None), 0, ""),
    ("training_records.json", lambda cases: cases[0].update(record=None, result=None), 0, ""),
    ("reward_maps.json", lambda cases: cases[0].update(regions=[{"object": "x", "bbox": None, "score": 1.0}]), 0, ""),
    ("reward_maps.json", lambda cases: cases[-3].update(regions=[None]), 0, ""),
    ("reward_maps.json", lambda cases: cases[-3].update(regions=None), 0, ""),
    ("reward_maps.json", lambda cases: cases[0].update(regions=None), 2, "regions: expected a list, found None"),
    ("reward_maps.json", lambda cases: cases[0].update(image_size_wh=None), 2, "not a case of the documented format"),
    ("judge_replies.json", lambda cases: cases[0].update(reply=None), 2, "not a case of the documented format"),
])
def test_null_where_a_list_or_an_object_belongs_is_no_traceback(tmp_path, capsys, file, change, code, message):
    shutil.copytree(HERE / "bagel" / "rewards", tmp_path / "rewards")
    cases = json.loads((tmp_path / "rewards" / file).read_text())
    change(cases)
    (tmp_path / "rewards" / file).chmod(0o644)
    (tmp_path / "rewards" / file).write_text(json.dumps(cases))
    assert main(["bagel", str(tmp_path / "rewards")]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key, group", [
    ("mask.3", "mask"), ("sincos.dim16.side5", "sincos"), ("timestep_embedding.out256", "timestep_embedding"),
    ("train_time.shift2.5", "train_time"), ("schedule.n4.shift3.0.dt", "schedule"), ("patchify14.out", "patchify"),
    ("image_transform.1.out", "image_transform")])
def test_a_tensor_that_differs_is_found(case, key, group):
    tensors = load_file(case / "units.safetensors")
    tensors[key] = tensors[key] + np.asarray(1, tensors[key].dtype)
    save_file(tensors, case / "units.safetensors")
    assert failed(units.check(case)) == {group}


@pytest.mark.parametrize("key, group", [("mask.3", "mask"), ("image_transform.1.out", "image_transform")])
def test_a_tensor_that_is_missing_is_found(case, key, group):
    tensors = load_file(case / "units.safetensors")
    del tensors[key]
    save_file(tensors, case / "units.safetensors")
    assert failed(units.check(case)) == {group}


@pytest.mark.parametrize("entry, change, group", [
    ("position_ids", lambda v: v[0].update(interpolate=[0] * 6), "position_ids"),
    ("plans", lambda v: v[2]["out"].update(packed_label_ids=[1]), "plans.lists"),
    ("plans", lambda v: v[0]["out"].update(packed_timesteps=["0.25", "-inf"]), "plans.floats"),
    ("lr", lambda v: v[1]["lr_used_at_step"].__setitem__(20, 0.0), "lr"),
    ("resize", lambda v: v["srum_train"]["rows_w_h_num_neww_newh"][0].__setitem__(3, 512), "resize")])
def test_an_entry_that_differs_is_found(case, entry, change, group):
    content = json.loads((case / "units.json").read_text())
    change(content[entry])
    (case / "units.json").write_text(json.dumps(content))
    assert failed(units.check(case)) == {group}


def test_what_is_unknown_is_reported_as_not_checked(case):
    tensors = load_file(case / "units.safetensors")
    save_file(tensors | {"novelty": np.zeros(3, np.float32)}, case / "units.safetensors")
    content = json.loads((case / "units.json").read_text())
    (case / "units.json").write_text(json.dumps(content | {"surprise": 1}))
    (case / "other.bin").write_bytes(b"")
    assert {"novelty", "units.json: surprise", "other.bin"} <= not_checked(units.check(case))


def test_a_whole_group_that_is_missing_is_a_failure(case):
    tensors = load_file(case / "units.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.startswith("schedule")}, case / "units.safetensors")
    assert failed(units.check(case)) == {"schedule"}
