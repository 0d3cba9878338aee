"""The question command: real answers of the tiny model, and what is said to questions that cannot be answered."""

import json
import shutil

import pytest
from PIL import Image

from srum_jax import chat
from srum_jax.inference.requests import Answer, RequestError
from tests import commands


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (40, 32), (200, 0, 0)).save(tmp_path / "red.png")
    return str(tmp_path / "red.png")


@pytest.mark.slow
def test_questions_about_pictures_are_answered_as_json(tiny_base, picture):
    code, out, err = commands.run(
        "srum_jax.chat", "--checkpoint", tiny_base, "--image", picture, "--image", picture, "--question",
        "what is it ?", "--think", "--max-tokens", "8", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"question", "text", "thought", "truncated", "num_tokens", "raw"}
    assert found["question"] == "what is it ?" and found["num_tokens"] <= 8


@pytest.mark.slow
def test_lines_of_the_input_are_questions(tiny_base):
    code, out, err = commands.run_afresh("srum_jax.chat", "--checkpoint", tiny_base, "--max-tokens", "4", "--json",
                                         given="what ?\n\nwhere ?\n")
    assert code == 0, err
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["what ?", "where ?"]


class FakePipeline:
    def check(self, question):
        if question.prompt == "bad":
            raise RequestError("prompt: expected better.")

    def answer(self, questions, *, sampler, think):
        (question,) = questions
        text = f"{question.prompt} about {len(question.images)}"
        return [Answer(text, "hm" if think else None, sampler.max_tokens < 5, 3, "raw")]


@pytest.fixture
def command(tiny_base, monkeypatch, capsys):
    monkeypatch.setattr(chat, "load_pipeline", lambda args, templates, *, understanding: FakePipeline())

    def call(*arguments, base=tiny_base):
        code = chat.main(["--checkpoint", str(base), *arguments])
        return code, *capsys.readouterr()

    return call


def test_an_answer_shows_the_thought_and_whether_it_was_cut_off(command, picture):
    code, out, _ = command("--question", "what ?", "--image", picture, "--think", "--max-tokens", "4")
    assert code == 0 and out == "| hm\n\nwhat ? about 1 [cut off: --max-tokens]\n"


@pytest.mark.parametrize("typed", [True, False])
def test_a_person_is_asked_again_after_a_bad_question_and_a_file_is_not(command, monkeypatch, typed):
    lines = iter(["one", "bad", "  ", "two"])

    def next_line(prompt):
        try:
            return next(lines)
        except StopIteration as error:
            raise EOFError from error

    monkeypatch.setattr("builtins.input", next_line)
    monkeypatch.setattr("sys.stdin.isatty", lambda: typed, raising=False)
    code, out, err = command()
    assert "error: prompt: expected better." in err
    assert (code, out) == ((0, "one about 0\ntwo about 0\n\n") if typed else (2, "one about 0\n"))


def test_a_model_without_a_vision_tower_says_so_in_one_line(command, tiny_base, tmp_path, picture):
    blind = shutil.copytree(tiny_base, tmp_path / "blind")
    (blind / "vit_config.json").unlink()
    code, _, err = command("--image", picture, "--question", "what ?", base=blind)
    assert code == 2 and err.startswith("error: image: expected a model with its vision tower") and err.count("\n") == 1
    assert command("--question", "what ?", base=blind)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "absent.png", "--question", "a"], "--image absent.png: no such file"),
        (["--image", __file__, "--question", "a"], "expected a picture, found"),
        (["--question", " "], "prompt: expected a text"),
        (["--question", "a", "--max-tokens", "1"], "max_tokens: expected an integer of at least 2, found 1"),
        (["--question", "a", "--temperature", "0"], "temperature: expected a positive number"),
        (["--question", "a", "--seed", "-1"], "seed: expected an integer"),
        (["--question", "a", "--templates", "absent"], "absent: expected a directory"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_with_exit_code_2(command, arguments, message):
    code, _, err = command(*arguments)
    assert code == 2 and message in err and err.startswith("error: ") and err.count("\n") == 1


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        chat.main(["--help"])
    assert stopped.value.code == 0 and "Ctrl-D" in capsys.readouterr().out


def test_a_photograph_is_turned_as_a_viewer_turns_it(command, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (64, 32)).save(tmp_path / "photo.jpg", exif=exif)
    seen = []
    monkeypatch.setattr(FakePipeline, "answer", lambda self, questions, **_: seen.extend(questions) or [
        Answer("a", None, False, 1, "a")])
    assert command("--image", str(tmp_path / "photo.jpg"), "--question", "what ?")[0] == 0
    assert seen[0].images[0].size == (32, 64)


def test_a_picture_behind_a_link_that_leads_nowhere_is_told_so(command, tmp_path):
    (tmp_path / "photo.jpg").symlink_to("elsewhere.jpg")
    code, _, err = command("--image", str(tmp_path / "photo.jpg"), "--question", "what ?")
    assert code == 2 and "photo.jpg: a link to elsewhere.jpg, which is not there" in err and err.count("\n") == 1
