"""How far the dual rewards of the trained base can be trusted, through the command line."""

import json
import os

import pytest
from PIL import Image

from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.records import sample_example
from tools.measure_rewards import main


@pytest.fixture
def folder(tmp_path):
    """Three pictures, each with its own sentence and two of the others."""
    from experiments._tiny_bagel.samples import picture_of

    examples = [sample_example(11, number, 0.0, tidy=True) for number in range(3)]
    texts = [prompt_text(example.prompt) for example in examples]
    lines = []
    for number, example in enumerate(examples):
        Image.fromarray(picture_of(example)).save(tmp_path / f"{number}.png")
        lines.append({"picture": f"{number}.png", "captions": texts, "right": [n == number for n in range(3)]})
        lines.append({"prompt": texts[number], "pictures": ["0.png", "1.png", "2.png"]})
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def measure(folder, *more):
    return main(["--checkpoint", os.fspath(trained_base()), "--dtype", "float32", "--attention", "dense", "--groups",
                 str(folder / "groups.jsonl"), "--batch-size", "9", "--reference-draws", "8", "--json",
                 str(folder / "report.json"), "--set", "rewards.draws=4", "--set",
                 "rewards.request=what is in the picture", *more])


@pytest.mark.slow
def test_both_rewards_are_measured(folder, capsys):
    assert measure(folder) == 0
    report = json.loads((folder / "report.json").read_text())
    captions, pictures = (report[name]["by_category"]["all"] for name in ("R_U", "R_G"))
    assert (report["R_U"]["kind"], report["R_G"]["kind"]) == ("surrogate", "likelihood")
    assert captions["groups"] == pictures["groups"] == 3
    assert captions["auc"] == captions["right_is_first"] == 1  # the base's generator was taught these sentences
    assert captions["noise_floor"] < 1e-4 < captions["spread"] and pictures["noise_floor"] < 1e-3
    assert "auc" not in pictures and "tau_halves" not in pictures
    assert all(-1 <= table["tau_directions"] <= 1 for table in (captions, pictures))
    assert "best of the group agrees in" in capsys.readouterr().out


@pytest.mark.parametrize(("line", "message"), [
    ("[1]", "groups.jsonl:1: expected an object, found list"),
    ('{"prompt": "a ring"}', "field 'pictures': expected a list of at least two texts, found None"),
    ('{"prompt": "a ring", "pictures": ["0.png"]}', "field 'pictures': expected a list of at least two"),
    ('{"picture": "0.png", "captions": ["a", "b"], "right": [1, 0]}', "field 'right': expected 2 truth values"),
    ('{"picture": "absent.png", "captions": ["a", "b"]}', "absent.png"),
    ("", "expected groups, found none"),
])
def test_a_line_that_cannot_be_used_is_named(folder, capsys, line, message):
    (folder / "groups.jsonl").write_text(line)
    assert measure(folder) == 2
    assert message in capsys.readouterr().err
