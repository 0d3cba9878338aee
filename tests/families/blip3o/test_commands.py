"""The commands on a BLIP3o checkpoint: what they make of it, and what they refuse."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from srum_jax import chat, generate
from tests.families.blip3o import tiny_checkpoint
from tests.families.blip3o.small_pipeline import changed_files, picture
from tools.convert_weights.__main__ import main as convert_weights
from tools.make_rewards.__main__ import main as make_rewards

QUICK = ("--dtype=float32", "--set", "sampler.features.num_steps=2", "--set", "sampler.pixels.num_steps=2")


def draw(out, capsys, *arguments, checkpoint=None):
    """Exit code, output and errors of `generate`."""
    code = generate.main(["--checkpoint", str(checkpoint or tiny_checkpoint.shared()), "--out", str(out), *QUICK,
                          *arguments])
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_a_command_draws_in_the_size_that_is_asked_for_and_goes_on_where_it_was(tmp_path, capsys):
    # A released checkpoint has no tower for features: that is needed to train.
    checkpoint = changed_files(tmp_path / "model", without=("eva_clip_vision_tower",))
    for written in (2, 0):
        code, out, err = draw(tmp_path / "out", capsys, "--prompt=a red circle", "--prompt=two green triangles",
                              "--size=32x48", checkpoint=checkpoint)
        assert code == 0, err
        assert int(re.search(r"written now +(\d+)", out)[1]) == written
    files = sorted((tmp_path / "out").rglob("*.png"))
    assert [Image.open(file).size for file in files] == [(48, 32), (48, 32)]
    assert not np.array_equal(*map(np.asarray, map(Image.open, files)))


@pytest.mark.parametrize("arguments, message", [
    (["--prompt", "a circle", "--think"], "--think: expected a model that plans before it draws, found blip3o"),
    (["--prompt", "a circle", "--size", "40x64"], "height: expected a positive multiple of 16 pixels, found 40"),
    (["--prompt", "a circle", "--size", "128x128"], "height: expected at most 64 pixels"),
    (["--prompt", "a <|im_end|> circle"], "control token '<|im_end|>'"),
    (["--prompt", "a circle", "--set", "sampler.guidance.text_scale=2"], "sampler.guidance"),
    (["--prompt", "a circle", "--set", "sampler.pixels.num_steps=0"], "pixels.num_steps"),
])
def test_what_cannot_be_drawn_is_refused_before_weights_are_read(tmp_path, capsys, arguments, message):
    code, _, err = draw(tmp_path / "out", capsys, *arguments)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_pixel_decoder_does_not_draw_and_is_told_by_the_folder(tmp_path, capsys):
    checkpoint = changed_files(tmp_path / "model", without=("diffusion-decoder",))
    code, _, err = draw(tmp_path / "out", capsys, "--prompt=a circle", checkpoint=checkpoint)
    assert code == 2 and str(checkpoint / "diffusion-decoder") in err and len(err.splitlines()) == 1


def test_a_part_that_the_release_has_not_is_asked_for_with_what_makes_it(tmp_path, capsys):
    checkpoint = changed_files(tmp_path / "model", without=("eva_clip_vision_tower", "diffusion-decoder"))
    convert = ["import", "--source", str(checkpoint), "--out", str(tmp_path / "out")]
    assert convert_weights(convert) == 2 and "convert_weights unpickle" in capsys.readouterr().err
    assert convert_weights([*convert, "--without", "eva"]) == 2 and "pixel decoder" in capsys.readouterr().err
    assert convert_weights([*convert, "--without", "eva", "--without", "decoder"]) == 0


@pytest.mark.slow
def test_an_export_says_what_its_template_has_not(tmp_path, capsys):
    whole, template = tmp_path / "whole", changed_files(tmp_path / "model", without=("diffusion-decoder",))
    assert convert_weights(["import", "--source", str(template), "--out", str(whole), "--without", "decoder"]) == 0
    export = ["export", "--checkpoint", str(whole), "--out"]
    assert convert_weights([*export, str(tmp_path / "without"), "--template", str(template)]) == 0
    assert f"the pixel decoder: {template} has none" in capsys.readouterr().out
    assert convert_weights([*export, str(tmp_path / "with"), "--template", str(tiny_checkpoint.shared())]) == 0
    assert "has none" not in capsys.readouterr().out and (tmp_path / "with" / "diffusion-decoder").is_dir()


def test_a_checkpoint_of_blip3o_next_is_refused_by_name(tmp_path, capsys):
    checkpoint = changed_files(tmp_path / "model")
    fields = json.loads((checkpoint / "config.json").read_text())
    del fields["vision_config"]
    (checkpoint / "config.json").write_text(json.dumps(fields))
    for code, err in (
        draw(tmp_path / "out", capsys, "--prompt=a circle", checkpoint=checkpoint)[::2],
        (chat.main(["--checkpoint", str(checkpoint), "--question", "what"]), capsys.readouterr().err),
    ):
        assert code == 2 and "BLIP3o-NEXT" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_chat_answers_about_a_picture_that_lies_on_its_side_as_about_the_upright_one(tmp_path, capsys):
    # Without the pixel decoder: it takes none to answer.
    checkpoint = changed_files(tmp_path / "model", without=("diffusion-decoder",))
    upright = Image.fromarray(picture(60, 90))
    exif = Image.Exif()
    exif[0x0112] = 8  # shown a quarter to the left
    upright.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "lying.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    said = []
    for name in ("upright.png", "lying.png"):
        code = chat.main(["--checkpoint", str(checkpoint), "--dtype=float32", "--image", str(tmp_path / name),
                          "--question", "what is in the picture", "--max-tokens", "6", "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        said.append(json.loads(out))
    assert said[0] == said[1] and said[0]["num_tokens"] == 5 and said[0]["truncated"]


@pytest.mark.slow
def test_a_picture_of_which_the_model_says_nothing_in_json_is_one_region_and_counted(tmp_path, capsys):
    code, _, err = draw(tmp_path / "out", capsys, "--prompt=a red circle", "--size=32x32")
    assert code == 0, err
    templates = tmp_path / "short.toml"
    templates.write_text("[grounding]\nmax_new_tokens = 4\n")
    code = make_rewards([
        "segment", "--out", str(tmp_path / "out"), "--provider", "grounding", "--checkpoint",
        str(tiny_checkpoint.shared()), "--dtype=float32", "--judge-templates", str(templates),
        "--set", "grounding.max_attempts=2"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "fallback_whole_image': 1" in out and "'not_json': 2" in out
