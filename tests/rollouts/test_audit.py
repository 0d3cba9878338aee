"""Looks from outside: what is drawn, stored, and told of a fall."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from srum_jax.rollouts import audit
from srum_jax.rollouts.audit import Audits
from srum_jax.rollouts.candidates import Group
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.rollouts.inputs import Inputs
from tests.observability.logged import events_of

INPUTS = Inputs(tuple(f"prompt {n}" for n in range(10)), ())


def audits(folder, **config):
    return Audits(folder, INPUTS, RolloutConfig(directions="generation", audit_inputs=5, **config), seed=3)


@pytest.fixture
def drawn(monkeypatch):
    """What was asked for; the rewards are those of the list, one of each input."""
    asked, rewards = [], [[-1.0, -1.2, -0.8, -1.1, -0.9]]

    def groups_of(direction, chosen, label, models, inputs, config, seed, seconds):
        asked.append((tuple(chosen), label, config.group_size, seed))
        pixels = np.zeros((4, 4, 3), np.uint8)
        return [Group(direction, f"prompt {n}", inputs.prompts[n], (pixels, pixels), np.array([value, value]),
                      (None, None)) for n, value in zip(chosen, rewards[0], strict=True)]

    monkeypatch.setattr(audit, "groups_of", groups_of)
    return asked, rewards


def test_inputs_are_spread_over_all_and_drawn_under_the_same_seeds_each_time(tmp_path, drawn):
    asked, rewards = drawn
    one = audits(tmp_path)
    sums, falls = one.run(0, None)
    assert sums == {"audit/generation_reward": (-5.0, 5.0), "audit/generation_change": (0.0, 5.0),
                    "audit/generation_change_error": (0.0, 1.0)} and falls == []
    rewards[0] = [value - 0.5 - 0.01 * n for n, value in enumerate(rewards[0])]
    sums, (fall,) = one.run(8, None)
    np.testing.assert_allclose(sums["audit/generation_change"][0] / 5, -0.52)
    assert fall.direction == "generation" and np.isclose(fall.mean, -0.52)
    assert asked == [((0, 2, 4, 6, 8), "audit", 2, 3)] * 2
    stored = tmp_path / "audit" / "round_00008"
    told = [json.loads(line) for line in (stored / "generation.jsonl").read_text().splitlines()]
    assert told[1]["prompt"] == "prompt 2" and np.allclose(told[1]["rewards"], -1.71)
    assert sorted(path.name for path in stored.glob("*.png")) == sorted(
        name for line in told for name in line["pictures"])


def test_tensorboard_shows_both_outputs_of_an_input_side_by_side_and_what_was_asked(tmp_path, drawn):
    one = audits(tmp_path, steps_per_round=2)
    one.run(0, None)
    one.run(8, None)
    first, last = sorted((tmp_path / "tensorboard" / "audit").iterdir())
    assert [path.name for path in (first, last)] == [
        f"events.out.tfevents.{number:010d}.generation" for number in (0, 8)]
    version, event = events_of(last)
    assert version.file_version == "brain.Event:2" and event.step == 16
    values = {kind: [value for value in event.summary.value if value.HasField(kind)] for kind in ("image", "tensor")}
    assert [value.tag for value in values["image"]] == [f"generation/{place:03d}" for place in range(5)]
    image = values["image"][1].image
    assert (image.height, image.width, image.colorspace) == (4, 8, 3)
    assert Image.open(io.BytesIO(image.encoded_image_string)).size == (8, 4)
    text = values["tensor"][1]
    assert text.metadata.plugin_data.plugin_name == "text" and text.tensor.dtype == 7
    assert [dim.size for dim in text.tensor.tensor_shape.dim] == [1]
    assert text.tensor.string_val == [b"prompt 2\n\n(-1.2, -1.2)"]


def test_a_run_that_goes_on_compares_with_its_first_audit(tmp_path, drawn):
    _, rewards = drawn
    first = audits(tmp_path)
    first.run(0, None)
    later = audits(tmp_path)
    later.set_state(json.loads(json.dumps(first.get_state())))
    rewards[0] = [value + 0.25 for value in rewards[0]]
    np.testing.assert_allclose(later.run(8, None)[0]["audit/generation_change"], (1.25, 5.0))


def test_an_audit_precedes_every_so_many_rounds_or_none(tmp_path):
    assert [n for n in range(10) if audits(tmp_path, audit_every=4).due(n)] == [0, 4, 8]
    assert not any(audits(tmp_path, audit_every=0).due(n) for n in range(10))


@pytest.mark.parametrize(("change", "fallen"), [
    ([-0.1, -0.12, -0.09, -0.11, np.nan], True),
    ([-0.1, 0.12, -0.09, 0.05, np.nan], False),  # an accident
    ([0.1, 0.12, 0.09, 0.11, 0.1], False),
    ([0.0] * 5, False),
    ([-0.1, -0.12, np.nan, -0.11, np.nan], False),  # of three nothing is said
])
def test_only_a_clear_fall_is_one(tmp_path, drawn, change, fallen):
    _, rewards = drawn
    one = audits(tmp_path)
    one.run(0, None)
    rewards[0] = [before + more for before, more in zip(rewards[0], change, strict=True)]
    sums, falls = one.run(8, None)
    assert bool(falls) == fallen
    counted = np.array(change)[np.isfinite(change)]
    if len(counted) == 3:
        assert "audit/generation_change_error" not in sums
    else:
        np.testing.assert_allclose(sums["audit/generation_change_error"],
                                   (counted.std(ddof=1) / np.sqrt(len(counted)), 1.0))
