"""Scores at each step: which steps, at which times, curves and what follows from them, and pictures of a real model."""

import json

import numpy as np
import pytest
from PIL import Image

from srum_jax import evaluate
from srum_jax.errors import BadInput
from srum_jax.evaluation.line_chart import line_chart
from srum_jax.evaluation.per_step import derived_numbers
from srum_jax.evaluation.registry import open_benchmark
from tests import commands
from tests.evaluation.replayed import Evaluation, reply

ENTRIES = [{"Question": f"a red circle and a blue square {number}", "Category": category, "Question_id": number}
           for number, category in enumerate(["color"] * 11 + ["shape", "complex_action"])]


def benchmark(drawn_as="50_no_think"):
    return open_benchmark("per_step", drawn_as=drawn_as)


def test_the_default_steps_are_all_evaluations_and_the_finished_picture():
    assert benchmark().steps == tuple(range(50)) and benchmark().images_per_item == 50
    cheap = benchmark("50_think_steps_0.2.4.8.12.16.24.32.40.48.49")
    assert cheap.images_per_item == 11
    item = cheap.items({"a.json": json.dumps(ENTRIES).encode()})[0]
    assert [cheap.image(item, number) for number in (0, 10)] == ["0/000.png", "0/049.png"]


def test_times_are_those_of_the_shifted_schedule():
    times = benchmark().times(3.0)
    assert (times[0], times[10], times[49]) == (1.0, 0.9213, 0.0) and benchmark().times(None) == [None] * 50


@pytest.mark.parametrize("steps", ["0.2", "49.2", "2.2.49", "0.50"])
def test_steps_that_do_not_grow_to_the_last_are_refused(steps):
    with pytest.raises(BadInput, match="--steps: expected growing numbers that end with 49"):
        _ = benchmark(f"50_think_steps_{steps}").steps


def test_the_first_ten_prompts_of_each_base_category_are_taken():
    items = benchmark().items({"a.json": json.dumps(ENTRIES).encode()})
    assert [item.id for item in items] == [*map(str, range(10)), "11"]


@pytest.mark.parametrize(("curve", "expected"), [
    ((0.0, 0.5, 0.9, 0.8, 1.0), {"first_step": 10, "early": 0.475, "late": 0.9}),
    ((1.0, 1.0, 1.0, 1.0, 1.0), {"first_step": 0, "early": 1.0, "late": 1.0})])
def test_what_follows_from_a_curve(curve, expected):
    assert derived_numbers((0, 5, 10, 20, 30), curve) == pytest.approx(expected)
    assert derived_numbers((0, 30), (0.0, 1.0))["late"] is None


def test_recorded_scores_give_the_curves(tmp_path):
    evaluation = Evaluation(tmp_path, "per_step", val__json=ENTRIES[:2])
    replies = [reply(str(item), json.dumps({"score": score}), call=aspect, image=number)
               for item in (0, 1) for number in range(3)
               for aspect, score in (("layout", 30 * number + 20 * item), ("detail", 10 * number))]
    assert evaluation.run(replies, "--steps", "0,3,5", "--set", "sampler.num_timesteps=6") == 0
    means = evaluation.means
    assert [means[f"layout_{step}"] for step in (0, 3, 5)] == pytest.approx([0.1, 0.4, 0.7])
    assert [means[f"detail_{step}"] for step in (0, 3, 5)] == pytest.approx([0.0, 0.1, 0.2])
    assert means["overall"] == pytest.approx(0.45)
    tables = evaluation.out / "tables"
    lines = [json.loads(line) for line in (tables / "per_step.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and lines[1] == {"model": None, "item": "0", "step": 3, "t": None, "layout": 0.3,
                                            "detail": 0.1}
    assert (tables / "per_step.csv").read_text().startswith("step,t,layout,layout_stderr,detail,detail_stderr\n0,")
    assert json.loads((tables / "derived.json").read_text())["layout"]["first_step"] == 5
    assert "<polyline" in (tables / "per_step.svg").read_text()


def test_a_chart_places_its_ends_and_escapes_names():
    text = line_chart({"<a&b>": [(0, 0.0), (10, 1.0)]}, "step", "score")
    assert 'points="56.0,352.0 510.0,16.0"' in text and "&lt;a&amp;b&gt;" in text and "<a&b>" not in text


@pytest.mark.slow
def test_the_steps_of_a_real_model_are_drawn_and_the_last_is_the_finished_picture(tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps([ENTRIES[0] | {"Question": "a red circle and a blue square"}]))
    words = ["--prompts", tmp_path / "prompts.json", "--out", tmp_path / "out", "--stage", "generate", "--checkpoint",
             "srum_jax/worlds/shapes/base_weights", "--dtype", "float32", "--steps", "0,2,3", "--set",
             "sampler.num_timesteps=4"]
    done = commands.run("srum_jax.evaluate", "--benchmark", "per_step", *words)
    assert done.code == 0, done.err
    folder = tmp_path / "out" / "generate" / "images" / "0"
    assert sorted(path.name for path in folder.iterdir()) == ["000.png", "002.png", "003.png"]
    pictures = [np.asarray(Image.open(folder / name), float) for name in ("000.png", "002.png", "003.png")]
    distances = [np.abs(picture - pictures[-1]).mean() for picture in pictures]
    assert pictures[0].shape == (48, 48, 3) and distances[0] > distances[1] >= 0 == distances[2]


def test_steps_that_are_no_numbers_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--benchmark", "per_step", "--out", "x", "--steps", "0,a"])
    assert stopped.value.code == 2 and "expected numbers separated by commas" in capsys.readouterr().err
