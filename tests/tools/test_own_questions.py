"""`judge --mode questions`: a scripted model breaks prompts down and answers; then the tiny base itself."""

import json
import os

import numpy as np
import pytest

from srum_jax.data.image_transform import decode_image
from srum_jax.inference.requests import Answer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompt_set import write_questions
from srum_jax.worlds.shapes.prompts import parse_prompt, prompt_text
from srum_jax.worlds.shapes.questions import JUDGE_TEMPLATES, yes_no_questions
from tests.families.blip3o import tiny_checkpoint
from tests.tools.fakes import PROMPTS, exported, generated, lines, segment, summary
from tests.tools.report_page import report
from tools.make_rewards import own_model
from tools.make_rewards.__main__ import main

REPLY = "object | shape | Is there a shape?\ncount | shape | Is there one shape?\nattribute | shape | Is it red?"
YES = {"Is there a shape?": 0.9, "Is there one shape?": 0.8, "Is it red?": 0.25}


class ScriptedModel:
    """Breaks every prompt down alike; the probability of "yes" and "Yes" together is that of YES."""

    def __init__(self, reply=REPLY):
        self.reply, self.broken_down, self.scored, self.scorer = reply, [], 0, self

    def answer(self, questions, *, sampler, think, allow_non_finite):
        assert all(question.images == () for question in questions)
        self.broken_down += [question.prompt for question in questions]
        return [Answer(self.reply, None, False, 9, self.reply)] * len(questions)

    def texts(self, questions, answers, *, total):
        assert total and all(len(question.images) == 1 for question in questions)
        self.scored += len(questions)
        found = []
        for question, answer in zip(questions, answers, strict=True):
            yes = next(value for text, value in YES.items() if text in question.prompt)
            found.append(np.log((yes if answer.lower() == "yes" else 1 - yes) / 2))
        return np.array(found)


def command(stage, out, *more):
    return main([stage, "--out", str(out), *map(str, more)])


def judge(out, *more):
    return command("judge", out, "--mode", "questions", "--checkpoint", os.fspath(trained_base()), *more)


@pytest.fixture
def model(monkeypatch):
    scripted = ScriptedModel()
    monkeypatch.setattr(own_model, "answerer", lambda arguments, think: scripted)
    return scripted


@pytest.fixture
def run(tmp_path):
    out = generated(tmp_path / "run")
    assert segment(out) == 0
    return out


def test_probabilities_become_ordinary_records_and_the_report_shows_them(run, model, tmp_path):
    assert judge(run) == 0 and command("export", run, "--verify") == 0
    records = exported(run)
    assert len(records) == len(PROMPTS)
    for record in records.values():
        assert record.global_score == pytest.approx(2 * (0.9 + 0.8 + 0.25) / 3 - 1)
        assert [region.score for region in record.regions] == pytest.approx([0.3])
        assert "Is it red? 0.250" in record.global_reason and record.regions[0].object == "shape"
    page = report(run, tmp_path / "report")
    asked = page.more(0)["questions"]
    assert [(entry["text"], "box" in entry) for entry in asked] == [
        ("Is there a shape?", False), ("Is there one shape?", False), ("Is it red?", False),
        ("Is there a shape?", True), ("Is it red?", True)]
    assert asked[0]["yes"] == pytest.approx(0.9)


def test_a_prompt_is_broken_down_once_whatever_is_judged_again(run, model):
    assert judge(run) == 0
    before = lines(run, "judge")
    assert len(model.broken_down) >= len(PROMPTS) == len(list(run.glob("questions/*/*.json")))
    model.broken_down.clear()
    for chunk in run.glob("judge/chunks/*/*.jsonl"):
        chunk.unlink()
    assert judge(run) == 0 and not model.broken_down
    assert lines(run, "judge") == before


def test_questions_that_were_changed_are_damage_that_names_the_file(run, model, capsys):
    assert judge(run) == 0
    path = next(run.glob("questions/*/*.json"))
    path.write_text(path.read_text().replace('"object"', '"mood"'))
    for chunk in run.glob("judge/chunks/*/*.jsonl"):
        chunk.unlink()
    assert judge(run) != 0
    assert f"{path}: field 'questions[0].kind'" in capsys.readouterr().err


def test_a_model_that_cannot_break_prompts_down_is_counted(run, model):
    model.reply = "I cannot."
    assert judge(run, "--set", "judge.max_attempts=2") == 0
    found = summary(run, "judge")
    assert found["problems"] == {"malformed_question": 2 * len(PROMPTS)}
    assert found["global_status"] == {"unparsed": len(PROMPTS)}
    assert command("export", run) == 3 and not exported(run)


def test_given_questions_are_asked_instead(run, model, tmp_path, capsys):
    path = tmp_path / "questions.jsonl"
    given = [{"kind": "object", "object": "shape", "text": "Is there a shape?"}]
    path.write_text("".join(json.dumps({"prompt": prompt.prompt, "questions": given}) + "\n" for prompt in PROMPTS))
    assert judge(run, "--questions", path) == 0
    assert not model.broken_down and not (run / "questions").exists()
    assert all(line["global"]["score"] == pytest.approx(0.8) for line in lines(run, "judge").values())
    path.write_text(path.read_text().splitlines()[0])
    assert judge(run, "--questions", path) == 2
    assert "expected questions for every prompt of the run" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--judge", "jsonl:scores"), ("--judge", "likelihood")])
def test_only_the_model_itself_has_probabilities(run, more, capsys):
    assert judge(run, *more) == 2
    assert "expected model with --mode questions" in capsys.readouterr().err


def test_a_family_that_cannot_score_texts_is_refused_by_name(run, capsys):
    assert command("judge", run, "--mode", "questions", "--checkpoint", tiny_checkpoint.shared()) == 2
    assert "blip3o cannot say how likely a text is" in capsys.readouterr().err.lower()


def test_questions_of_the_shapes_world_name_every_object():
    prompt = parse_prompt("a red circle left of two blue squares")
    assert [(str(q.kind), q.object, q.text) for q in yes_no_questions(prompt)] == [
        ("object", "a red circle", "a red circle and two squares"),
        ("object", "a blue square", "a circle and two blue squares"),
        ("count", "a blue square", "a red circle and two blue squares"),
        ("relation", "a red circle", prompt_text(prompt)),
    ]


@pytest.mark.slow
def test_the_tiny_base_gives_pictures_that_fit_the_best_scores(tmp_path):
    texts = ("a red circle and a blue square", "a green triangle and a yellow cross")
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    out, model = tmp_path / "run", ["--checkpoint", os.fspath(trained_base()), "--dtype", "float32",
                                    "--attention", "dense"]
    assert command("generate", out, "--prompts", tmp_path / "prompts.txt", "--num-candidates", 2, "--batch-size", 4,
                   "--set", "sampler.num_timesteps=12", *model) == 0
    assert command("segment", out, "--provider", "components") == 0
    write_questions(tmp_path, [parse_prompt(text) for text in texts])
    assert command("judge", out, "--mode", "questions", "--questions", tmp_path / "questions.jsonl",
                   "--judge-templates", JUDGE_TEMPLATES, "--batch-size", 32, *model) == 0
    assert command("export", out, "--no-region", "keep") == 0
    records = exported(out).values()
    fits = [judge_image(record.prompt, np.asarray(decode_image(record.image_encoded))).correct for record in records]
    scores = np.array([record.global_score for record in records])
    assert len(scores) == 4 and any(fits)
    assert min(scores[fits]) > 0.5 and all(scores[np.logical_not(fits)] < min(scores[fits]))
