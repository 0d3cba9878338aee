"""The study of methods: its sentences, its scores, its tables, and the command itself."""

import dataclasses
import json
import signal

import numpy as np
import pytest

from experiments._tiny_methods.arms import ARMS, BEST, LIKELIHOOD, ORACLE, PROBABILITY, RANDOM
from experiments._tiny_methods.scores import read_scores, score_file
from experiments._tiny_methods.tables import choice_table, confirmation_tables, guidance_table, runs_table
from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study.confirmation import PICTURES, Confirmation
from experiments._tiny_study.marks import Marks, save_marks
from experiments._tiny_study.own_judgement import read_records
from experiments._tiny_study.sentences import (
    confirmation_noise,
    confirmation_prompts,
    examined_texts,
    first_noise,
    held_out_prompts,
    tiny_study_texts,
    training_prompts,
    validation_prompts,
)
from experiments._tiny_study.settings import StudySettings
from experiments._tiny_study.statistics import clustered_interval
from experiments._tiny_study.steps import Study
from experiments.tiny_methods import QUICK, WHOLE, main
from srum_jax.data.writer import write_records
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.prompts import is_held_out, prompt_text
from srum_jax.worlds.shapes.records import write_records as write_world
from srum_jax.worlds.shapes.scene import CATEGORIES
from tests import commands


def texts(prompts):
    return {prompt_text(prompt) for prompt in prompts}


@pytest.mark.parametrize("settings", [WHOLE, QUICK])
def test_training_validation_and_held_out_sentences_are_apart(settings):
    held_out, validation, training = held_out_prompts(settings), validation_prompts(settings), training_prompts(
        settings, 1)
    assert all(is_held_out(text) for text in texts(held_out))
    assert not texts(validation) & texts(training) and not texts(held_out) & (texts(validation) | texts(training))


def test_new_held_out_sentences_are_those_that_the_tiny_study_had_not_where_there_are_such():
    known = tiny_study_texts()
    assert known == texts(held_out_prompts(StudySettings()))
    new = {category: [prompt_text(p) not in known for p in held_out_prompts(WHOLE) if p.category == category]
           for category in CATEGORIES}
    assert all(len(found) == 60 for found in new.values())
    assert not any(new.pop("shape")) and 0 < sum(new.pop("texture")) < 60  # small categories
    assert all(all(found) for found in new.values())


def test_new_sentences_have_noise_of_their_own():
    seeds = {noise(settings) + run for settings in (StudySettings(), WHOLE) for run in range(3)
             for noise in (first_noise, confirmation_noise)}
    assert len(seeds) == 12


def test_the_second_examination_has_sentences_that_no_earlier_one_had_where_there_are_such():
    found, known = confirmation_prompts(WHOLE), examined_texts(WHOLE)
    assert known == texts(held_out_prompts(WHOLE)) | tiny_study_texts()
    new = {category: texts(p for p in found if p.category == category) - known for category in CATEGORIES}
    assert all(is_held_out(text) for text in texts(found)) and len(found) == 960 and len(texts(found)) == 791
    assert {category: len(new[category]) for category in CATEGORIES} == {
        "color": 120, "shape": 0, "texture": 0, "spatial": 120, "3d-spatial": 85, "non-spatial": 120, "numeracy": 120,
        "complex": 120}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Twelve sentences, three candidates, one of which is right; the judge says the opposite of the truth."""
    folder = tmp_path_factory.mktemp("judged")
    write_world(folder / "right", 12, 3, wrong_share=0.0, image_size=48)
    write_world(folder / "wrong", 12, 3, wrong_share=1.0, image_size=48)
    right, wrong = ([*read_records(folder / name)] for name in ("right", "wrong"))
    chosen = ((index, number, (right if number == index % 3 else wrong)[index])
              for index in range(12) for number in range(3))
    write_records(folder / "export", (
        dataclasses.replace(record, record_id=f"r-{index}-{number}", index=index, candidate=number,
                            prompt=right[index].prompt, global_score=-1.0 if number == index % 3 else 1.0)
        for index, number, record in chosen), num_shards=2)
    return folder


def test_scores_are_made_once_and_for_every_record(judged):
    truth = read_scores(score_file(judged, ORACLE, "unused"))
    assert {name: value >= 1 for name, value in truth.items()} == {
        f"r-{index}-{number}": number == index % 3 for index in range(12) for number in range(3)}
    chance = score_file(judged, RANDOM, "unused")
    before = chance.read_text()
    assert len(set(read_scores(chance).values())) == 36 and score_file(judged, RANDOM, "unused") == chance
    assert chance.read_text() == before


def test_the_models_own_probability_tells_right_pictures_from_wrong_ones(judged):
    scores = read_scores(score_file(judged, PROBABILITY, trained_base()))
    right = [scores[f"r-{index}-{index % 3}"] for index in range(12)]
    wrong = [scores[f"r-{index}-{(index + 1) % 3}"] for index in range(12)]
    assert np.mean(right) > np.mean(wrong) + 0.5 and max(*right, *wrong) <= 1 and min(*right, *wrong) >= -1


def test_the_likelihood_of_the_sentence_prefers_right_pictures_and_leaves_the_folder_as_it_was(judged):
    before = {path.name for path in judged.iterdir()}
    scores = read_scores(score_file(judged, LIKELIHOOD, trained_base()))
    assert {path.name for path in judged.iterdir()} - before <= {"scores"}
    groups = np.array([[scores[f"r-{index}-{number}"] for number in range(3)] for index in range(12)])
    assert np.sum(groups.argmax(1) == np.arange(12) % 3) > 8 and np.allclose(groups.sum(1), 0, atol=1e-6)


def test_a_choice_by_the_oracle_is_right_and_one_by_a_judge_that_lies_is_wrong(judged):
    truth = score_file(judged, ORACLE, "unused")
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in choice_table(judged, {ORACLE: truth}, truth).splitlines()]
    found = {row[0]: row[1:4] for row in rows}
    assert found["nothing: all candidates"][2] == "33.3" and found["at least one of K is right"][2] == "100.0"
    assert found["oracle"] == ["100.0", "100.0", "100.0"] and found["judge's word"] == ["0.0", "0.0", "0.0"]


def marks(share, count=60):
    fit = (np.arange(count) < share * count).astype(float)
    return Marks(fit, 2 * fit - 1, np.ones(count))


def test_runs_are_compared_one_by_one_and_together():
    models = {"base": [marks(0.5)] * 2, "same": [marks(0.5)] * 2, "better": [marks(0.9), marks(0.5)]}
    rows = runs_table(models).splitlines()
    assert rows[0] == "| against base | run 0 | run 1 | all runs |" and len(rows) == 4
    assert "| better | +40.0 [" in rows[3] and rows[3].count("*") == 2 and "| +0.0 [+0.0, +0.0] |" in rows[3]
    assert "*" not in rows[2]


def test_only_some_prompts_can_be_looked_at():
    found = marks(0.5).only([number % 2 == 0 for number in range(60)])
    assert len(found.fit) == len(found.well_formed) == 30 and found.fit.mean() == 0.5


def test_pictures_of_one_sentence_are_no_new_evidence():
    rng = np.random.default_rng(0)
    per_sentence = rng.integers(0, 2, 40).astype(float)
    once = clustered_interval(per_sentence[None], [str(number) for number in range(40)], ["a"] * 40)
    often = clustered_interval(np.repeat(per_sentence, 9)[None], [str(number // 9) for number in range(360)],
                               ["a"] * 360)
    assert once == often and once.low < once.mean == per_sentence.mean() < once.high


def test_what_differs_between_categories_alone_leaves_no_doubt():
    found = clustered_interval(np.array([[1.0] * 5 + [0.0] * 10]), [str(number) for number in range(15)],
                               ["a"] * 5 + ["b"] * 10)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)  # each category counts the same


def test_the_second_examination_is_of_its_own_marks(tmp_path):
    settings = dataclasses.replace(WHOLE, evaluation_prompts_per_category=1, seeds=2, guidance=(4.0,))
    study = Study.begin(tmp_path, settings, trained_base())
    confirmation = Confirmation(study)
    prompts = [p for p in confirmation_prompts(settings) for _ in range(PICTURES)]
    for name, right in (("base", 2), ("best", 3)):
        fit = np.tile((np.arange(PICTURES) < right).astype(float), len(prompts) // PICTURES)
        for seed in range(2):
            save_marks(tmp_path / "confirmation" / f"{name}-{seed}.json", prompts, Marks(fit, fit, fit), guidance=4.0)
    tables = confirmation_tables(confirmation, ["base", "best"])
    assert list(tables) == ["Second examination, guidance chosen in the first", "Second examination, against base",
                            "Second examination, against base, sentences that are new to all examinations",
                            "Second examination, against base by category"]
    overall, against, _, by_category = tables.values()
    assert by_category.splitlines()[2] == "| best" + 8 * " | +25.0 [+25.0, +25.0]*" + " |"
    assert "| base | 4 | 50.0 [50.0, 50.0] | 50.0 |" in overall and "| best | 4 | 75.0 [75.0, 75.0] | 75.0 |" in overall
    assert against.splitlines()[2] == "| best" + 3 * " | +25.0 [+25.0, +25.0]*" + " |"
    with pytest.raises(FileNotFoundError, match=r"sft-0\.json"):
        confirmation.fits("sft")


def test_the_best_guidance_is_bold():
    table = guidance_table({"base": {"4": 0.5, "10": 0.6}, "best": {"4": 0.7, "10": 0.6}}).splitlines()
    assert table[0].endswith("guidance 4 | guidance 10 |")
    assert table[2:] == ["| base | 0.500 | **0.600** |", "| best | **0.700** | 0.600 |"]


def test_every_arm_names_what_there_is():
    for arm in ARMS.values():
        assert arm.variant in VARIANTS and arm.scores in (None, PROBABILITY, LIKELIHOOD, ORACLE, RANDOM)
        assert arm.after is None or arm.after in ARMS


@pytest.mark.parametrize(("arms", "message"), [
    ("best,magic", "--arms: expected names among sft, paper"),
    ("best_round2", "--arms: expected 'best' beside 'best_round2'"),
])
def test_arms_that_cannot_be_used_are_errors(tmp_path, capsys, arms, message):
    assert main(["--out", str(tmp_path / "s"), "--arms", arms]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "s").exists()


SMALLEST = ("--quick", "--prompts-per-category", "1", "--candidates", "2", "--steps", "4",
            "--evaluation-prompts-per-category", "1", "--validation-prompts-per-category", "1",
            "--understanding-pictures", "8")


@pytest.mark.slow
def test_a_study_that_was_stopped_goes_on_to_its_tables_and_takes_more_arms(tmp_path):
    out = tmp_path / "study"
    first = commands.start_afresh("experiments.tiny_methods", "--out", out, *SMALLEST, "--arms", BEST)
    stopped = first.signal_when(lambda: "[train best, seed 0] memory per device" in first.out, signal.SIGTERM)
    assert stopped.code == 130 and not (out / "marks").exists(), stopped.err
    code, printed, err = commands.run("experiments.tiny_methods", "--out", out, *SMALLEST, "--arms", "sft,best",
                                      "--confirm")
    assert code == 0, err
    assert {path.name for path in (out / "confirmation").iterdir()} == {"base-0.json", "sft-0.json", "best-0.json"}
    table = (out / "table.md").read_text()
    assert table in printed and all(f"| {name} |" in table for name in ("base", "sft", "best"))
    answers = [(out / "marks" / name / "understanding.json").read_text() for name in ("base", "sft", "best")]
    assert len(set(answers)) == 1  # training leaves the understanding side as it was
    assert (out / "plot.png").exists() and (out / "pictures.png").exists()
    assert [json.loads((out / path / "manifest.json").read_text())["num_records"]
            for path in ("records/best", "rewards/round1/export")] == [8, 16]
    recipe = json.loads((out / "models" / "best-0" / "recipe.json").read_text())
    assert recipe["records"].endswith("records/best")
