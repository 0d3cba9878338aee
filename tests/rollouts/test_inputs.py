import numpy as np
import pytest
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.rollouts.inputs import Inputs, inputs_sha256, numbers_of_round, stable_seed


def taken(count, per_round, rounds, seed=0):
    return [number for r in range(rounds) for number in numbers_of_round(count, per_round, r, seed)]


@pytest.mark.parametrize(("count", "per_round"), [(6, 2), (5, 3), (2, 7)])
def test_every_pass_takes_each_input_once_in_an_order_of_its_own(count, per_round):
    found = taken(count, per_round, 12)
    passes = [found[n : n + count] for n in range(0, len(found) - count + 1, count)]
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert len(set(map(tuple, passes))) > 1 or len(passes) == 1
    assert taken(count, per_round, 12, seed=1) != found


def test_a_seed_is_a_function_of_what_it_is_for_on_any_machine():
    assert stable_seed(7, 3, "generation", "prompt 4", 0) == 670080055281613532
    assert stable_seed("a", "bc") != stable_seed("ab", "c")


def folder_of_pictures(folder):
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (8, 6), "red").save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_prompts_and_pictures_are_found_in_a_fixed_order(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\ntwo rings\n")
    pictures = folder_of_pictures(tmp_path / "pictures")
    config = RolloutConfig(prompts=str(tmp_path / "prompts.txt"), pictures=str(pictures))
    found = Inputs.read(config)
    assert found.prompts == ("a red circle", "two rings")
    assert [path.name for path in found.pictures] == ["a.jpg", "b.png"]
    assert found.pixels(1).shape == (6, 8, 3) and found.pixels(1).dtype == np.uint8
    before = inputs_sha256(config)
    (pictures / "b.png").write_bytes((pictures / "a.jpg").read_bytes())
    after = inputs_sha256(config)
    assert before["prompts"] == after["prompts"] and before["pictures"] != after["pictures"]


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "rollouts.prompts: expected a file of prompts"),
    ({"prompts": "{tmp}/prompts.txt"}, "rollouts.pictures: expected a folder of pictures, found nothing"),
    ({"prompts": "{tmp}/prompts.txt", "pictures": "{tmp}/empty"}, "empty: expected pictures .*found none"),
    ({"prompts": "{tmp}/absent.txt"}, "rollouts.prompts: .*absent.txt: no such file"),
])
def test_inputs_that_are_not_there_are_named_with_their_setting(tmp_path, settings, message):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    (tmp_path / "empty").mkdir()
    settings = {name: value.format(tmp=tmp_path) for name, value in settings.items()}
    with pytest.raises(BadInput, match=message):
        Inputs.read(RolloutConfig(**settings))


def test_a_file_that_is_no_picture_is_named(tmp_path):
    folder = folder_of_pictures(tmp_path / "pictures")
    (folder / "b.png").write_bytes(b"no picture")
    found = Inputs.read(RolloutConfig(pictures=str(folder), directions="understanding"))
    with pytest.raises(BadInput, match=r"rollouts.pictures: .*b\.png"):
        found.pixels(1)


@pytest.mark.parametrize(("field", "value"), [
    ("group_size", 1), ("steps_per_round", 0), ("directions", "neither"), ("scorer", "oracle"), ("alpha_of", "best"),
    ("min_gap", float("nan")), ("advantage_scale", "all"), ("prompts_per_round", 0),
])
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(BadInput, match=f"rollouts.{field}"):
        RolloutConfig(**{field: value})


def test_the_inputs_of_a_round_are_divided_among_its_steps():
    with pytest.raises(BadInput, match=r"rollouts.pictures_per_round: expected a multiple of steps_per_round 3"):
        RolloutConfig(prompts_per_round=6, pictures_per_round=4, steps_per_round=3)


def test_rounds_have_both_directions_or_take_turns():
    assert RolloutConfig().directions_of(1) == ("generation", "understanding")
    turns = RolloutConfig(directions="alternate")
    assert [turns.directions_of(n) for n in range(3)] == [("generation",), ("understanding",), ("generation",)]
