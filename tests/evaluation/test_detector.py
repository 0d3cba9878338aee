"""Detectors of transformers as judges of GenEval: boxes of the classes that are asked for, and colours of crops."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
from srum_jax.errors import BadInput
from srum_jax.evaluation.geneval import COLORS
from srum_jax.judges.detector import DetectorJudge
from srum_jax.rewards.judgement.calls import Call
from srum_jax.weights.errors import WeightsError

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def asked(*wanted):
    metadata = {"tag": "two_object", "include": [{"count": 1, **one} for one in wanted]}
    return PICTURE, Call("detect", 1, json.dumps(metadata), 1, False, None, 0, "", "00000/0")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    from tests.evaluation import tiny_detectors  # transformers' models: only those who run them wait for them

    folder = tmp_path_factory.mktemp("detectors")
    return {name: getattr(tiny_detectors, f"write_{name}")(folder / name)
            for name in ("open_vocabulary", "coco", "clip")}


@pytest.mark.parametrize("kind", ["open_vocabulary", "coco"])
def test_boxes_of_the_asked_classes_come_in_the_order_of_their_scores(checkpoints, kind):
    judge = DetectorJudge(checkpoints[kind], device="cpu")
    reply, again = judge.answer([asked({"class": "cup"}, {"class": "dog"})] * 2)
    objects = json.loads(reply.text)["objects"]
    assert list(objects) == ["cup", "dog"] and any(objects.values()) and reply.text == again.text
    for found in objects.values():
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True) and all(0 < score <= 1 for score in scores)
        assert all(len(one["box"]) == 4 and max(one["box"]) < 200 and "color" not in one for one in found)


def test_colours_are_named_where_they_are_asked_for_and_only_there(checkpoints):
    judge = DetectorJudge(checkpoints["open_vocabulary"], checkpoints["clip"], "cpu")
    colored, plain = judge.answer([asked({"class": "cup", "color": "red"}), asked({"class": "cup"})])
    found, others = (json.loads(reply.text)["objects"]["cup"] for reply in (colored, plain))
    assert found and {one["color"] for one in found} <= set(COLORS)
    assert [one["box"] for one in found] == [one["box"] for one in others]
    assert not any("color" in one for one in others)


@pytest.mark.parametrize("which", ["open_vocabulary", "clip"])
@pytest.mark.parametrize(("damage", "named"), [
    (lambda directory: (directory / "config.json").write_text("{"), "config.json: not valid JSON"),
    (lambda directory: (directory / "config.json").write_text('{"model_type": "novel"}'), "cannot be loaded"),
    (lambda directory: (directory / "config.json").unlink(), "config.json: no such file"),
    (lambda directory: (directory / "model.safetensors").unlink(), "the model cannot be loaded"),
], ids=["damaged", "unknown", "absent", "without weights"])
def test_a_checkpoint_that_is_not_whole_is_refused_in_one_line(checkpoints, tmp_path, which, damage, named):
    given = {name: shutil.copytree(checkpoints[name], tmp_path / name) for name in ("open_vocabulary", "clip")}
    damage(given[which])
    with pytest.raises(WeightsError, match=named) as caught:
        DetectorJudge(given["open_vocabulary"], given["clip"], "cpu")
    assert str(given[which]) in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_checkpoint_cannot_do_is_told(checkpoints, tmp_path):
    judge = DetectorJudge(checkpoints["coco"], device="cpu")
    with pytest.raises(BadInput, match="does not know the class 'giraffe'"):
        judge.answer([asked({"class": "giraffe"})])
    with pytest.raises(BadInput, match="asks for colours"):
        judge.answer([asked({"class": "cup", "color": "red"})])
    with pytest.raises(BadInput, match="no such file"):
        DetectorJudge(tmp_path / "absent")
