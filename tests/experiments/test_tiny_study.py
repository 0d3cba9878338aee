"""The study of the tiny world: its statistics, its tables, and the quick form of the command itself."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest
from etils import epath
from PIL import Image
from safetensors.numpy import load_file

from experiments._tiny_bases.bases import BASES
from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study import exam, steps, tasks, work
from experiments._tiny_study.errors import SettingsError, StudyError
from experiments._tiny_study.marks import Marks, chosen, load_marks, save_marks
from experiments._tiny_study.own_judgement import judgement_table, own_judgement, read_records, require_plans
from experiments._tiny_study.picture_grid import read_strip, write_grid, write_strip
from experiments._tiny_study.plot import write_plot
from experiments._tiny_study.settings import StudySettings
from experiments._tiny_study.statistics import difference, mean_interval
from experiments._tiny_study.table import category_table, overall_table
from experiments._tiny_study.work import at_work
from experiments.tiny_study import main
from srum_jax.data import writer
from srum_jax.errors import BadInput
from srum_jax.worlds.shapes.base import trained_base, trained_janus
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import draft_of, lay_out
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.prompts import is_held_out, prompt_text
from srum_jax.worlds.shapes.records import sample_example, world_settings, write_records
from srum_jax.worlds.shapes.scene import CATEGORIES
from tests import commands

PROMPTS = balanced_prompts(3, 5, held_out=True)


def marks(seed, share=0.5):
    rng = np.random.default_rng(seed)
    fit = (rng.random(len(PROMPTS)) < share).astype(float)
    return Marks(fit, 2 * fit - 1, np.ones(len(PROMPTS)))


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for number in range(200):
        values = (rng.random((2, 80)) < 0.3).astype(float)
        interval = mean_interval(values, seed=number)
        held += interval.low <= 0.3 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_pairing_sees_a_difference_that_single_intervals_hide():
    rng = np.random.default_rng(1)
    hard = rng.random(100)  # prompts differ far more than models
    first = np.stack([hard, hard])
    second = first + 0.02 + 0.01 * rng.standard_normal(first.shape)
    assert mean_interval(first).high > mean_interval(second).low
    found = difference(second, first)
    assert found.clear and found.low < 0.02 < found.high
    assert not difference(first, first).clear
    with pytest.raises(ValueError, match="expected the same seeds and prompts"):
        difference(first, first[:1])


def test_tables_have_a_row_per_model_and_mark_clear_differences():
    models = {"base": [marks(0, 0.1), marks(1, 0.1)], "sft": [marks(0, 0.1), marks(1, 0.1)],
              "paper": [marks(2, 1.0), marks(3, 1.0)]}
    table = overall_table(models, {"base": 1.5, "sft": 1.0, "paper": 2.0}).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == ["base", "sft", "paper"]
    assert "100.0 [100.0, 100.0]" in table[4] and table[4].count("*") == 3
    assert "+0.0 [+0.0, +0.0] |" in table[3]
    categories = category_table(models, PROMPTS).splitlines()
    assert categories[0].count("|") == 10 and len(categories) == 5


def test_marks_are_kept_for_the_prompts_that_they_belong_to(tmp_path):
    path = epath.Path(tmp_path / "marks" / "0.json")
    assert load_marks(path, PROMPTS) is None
    save_marks(path, PROMPTS, marks(4), guidance=2.0)
    assert np.array_equal(load_marks(path, PROMPTS).fit, marks(4).fit)
    assert json.loads(path.read_text())["guidance"] == 2.0
    with pytest.raises(ValueError, match="holds marks for other prompts"):
        load_marks(path, PROMPTS[1:])
    assert chosen({"1": 0.2, "1.5": 0.3, "2": 0.3}) == 1.5


def test_the_oracle_marks_drawn_truth_as_fitting():
    examples = [sample_example(3, number, 0.0, held_out=True) for number in range(16)]
    found = Marks.of([example.prompt for example in examples], [render(e.scene, 48).image for e in examples])
    assert found.fit.all() and found.well_formed.all() and np.all(found.score == 1.0)


def test_the_sets_of_prompts_are_balanced_apart_and_distinct():
    held_out, training = balanced_prompts(12, 1, held_out=True), balanced_prompts(20, 1, held_out=False)
    texts = [prompt_text(prompt) for prompt in held_out]
    assert len(set(texts)) == 96 and all(is_held_out(text) for text in texts)
    assert not set(texts) & {prompt_text(prompt) for prompt in training}
    assert [prompt.category for prompt in held_out[::12]] == list(CATEGORIES)
    shapes = [prompt_text(prompt) for prompt in balanced_prompts(40, 1, held_out=True) if prompt.category == "shape"]
    assert len(shapes) == 40 and 15 <= len(set(shapes)) < 40  # of a small category all come, then again


def test_the_grid_frames_pictures_by_the_verdict(tmp_path):
    example = sample_example(3, 0, 0.0)
    picture = render(example.scene, 48).image
    write_grid(tmp_path / "g.png", [example.prompt], {"right": [picture], "empty": [np.full_like(picture, 235)]})
    with Image.open(tmp_path / "g.png") as sheet:
        colors = {color for _, color in sheet.getcolors(1 << 20)}
    assert {(40, 150, 70), (200, 60, 50)} <= colors


def test_a_perfect_judge_is_told_from_one_that_says_the_opposite(tmp_path):
    write_records(tmp_path / "right", 60, seed=3, wrong_share=0.5, image_size=48)
    found = own_judgement(tmp_path / "right", (6, 6))
    assert found.records == 60 and 0.3 < found.fit < 0.7 and found.said == found.fit
    assert found.precision == found.auc == found.region_auc == 1.0
    assert set(found.by_category) == set(CATEGORIES)
    assert all(kept in (0.0, 1.0) for _, kept, _ in found.by_category.values())
    for name in ("paper", "official"):
        right, wrong = found.weights[name]
        assert right > wrong >= 0
    settings = world_settings(num_records=60, seed=3, wrong_share=0.5, image_size=48)
    reversed_scores = (
        dataclasses.replace(record, global_score=-record.global_score, regions=tuple(
            dataclasses.replace(region, score=-region.score) for region in record.regions))
        for record in read_records(epath.Path(tmp_path / "right"))
    )
    writer.write_records(tmp_path / "wrong", reversed_scores, name="shapes", num_shards=1, provenance={},
                         settings=settings)
    found = own_judgement(tmp_path / "wrong", (6, 6))
    assert found.auc == 0.0 and found.region_auc == 0.0 and found.precision < 0.5
    table = judgement_table(epath.Path(tmp_path / "kept.json"), {"1st round": tmp_path / "right"}, (6, 6))
    assert "| 1st round | 60 |" in table and json.loads((tmp_path / "kept.json").read_text())["1st round"]["auc"] == 1.0


def test_the_plot_shows_every_model_and_way_of_drawing(tmp_path):
    models = {"base": [marks(0, 0.2), marks(1, 0.2)], "paper": [marks(2, 0.8), marks(3, 0.8)]}
    write_plot(epath.Path(tmp_path / "one.png"), {"guidance": models})
    write_plot(epath.Path(tmp_path / "two.png"), {"guidance": models, "none": models | {"paper": models["base"]}})
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.size == two.size and np.any(np.asarray(one) != np.asarray(two))
        assert len(set(map(tuple, np.asarray(two).reshape(-1, 4)))) > 20


@pytest.mark.parametrize(("arguments", "message"), [
    (["--variants", "sft,magic"], "expected names among sft, official, paper"),
    (["--variants", "paper,paper"], "expected different names, found paper,paper"),
    (["--base", "/nothing"], "--base /nothing: /nothing: no such directory"),
    (["--steps", "0"], "steps: expected a positive number"),
])
def test_arguments_that_cannot_be_used_are_errors(tmp_path, capsys, arguments, message):
    assert main(["--out", str(tmp_path / "s"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("out", ["", "gs://bucket/study", __file__])
def test_a_study_needs_a_folder_of_this_machine(capsys, out):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", out])
    assert stopped.value.code == 2 and "expected a folder of this machine" in capsys.readouterr().err


def test_a_folder_that_another_process_works_in_is_left_alone(tmp_path, capsys):
    study = steps.Study.begin(epath.Path(tmp_path), StudySettings(), trained_base())
    with at_work(study, 1):
        assert main(["--out", str(tmp_path)]) == 2
    assert "another process works in this folder" in capsys.readouterr().err


def exported(study, variant, seed):
    """A checkpoint as the export leaves it: with the recipe of its template."""
    path = study.checkpoint(variant, seed)
    path.mkdir(parents=True)
    (path / "recipe.json").write_text('{"made_by": "python -m experiments.tiny_pretrain"}')
    return path


def test_a_model_says_how_it_was_made_and_another_recipe_is_not_taken_for_it(tmp_path, monkeypatch):
    study = steps.Study(epath.Path(tmp_path), StudySettings(), BASES["bagel"])
    path = exported(study, "paper", 0)
    base = shutil.copytree(path, tmp_path / "base")
    for _ in range(2):
        assert study.model("paper", 0, epath.Path("rewards"), base) == path
        recipe = json.loads((path / "recipe.json").read_text())
        assert recipe["made_by"].endswith("tiny_study") and recipe["start"] == str(base)
        assert recipe["variant"]["objective"]["reference_coefficient"] == 0.5
        recipe["variant"]["model"]["checkpoint"] = "before/this/repository/moved"
        (path / "recipe.json").write_text(json.dumps(recipe))
    second = shutil.copytree(path, study.checkpoint("paper-round2", 0))  # the export copies the recipe of the start
    assert study.model("paper", 0, epath.Path("more"), path, "paper-round2") == second
    assert json.loads((second / "recipe.json").read_text())["records"] == "more"
    monkeypatch.setitem(VARIANTS, "paper", {"objective": {"reference_coefficient": 0.75}})
    with pytest.raises(SettingsError, match=r"paper-0: was made in another way \(variant; see its recipe.json\)"):
        study.model("paper", 0, epath.Path("rewards"), base)


@pytest.mark.parametrize(("code", "error"), [(1, StudyError), (2, SettingsError), (130, KeyboardInterrupt)])
def test_exit_codes_of_the_steps_are_told_apart(tmp_path, monkeypatch, code, error):
    monkeypatch.setattr(steps, "make_rewards", lambda words: code)
    with pytest.raises(error):
        steps.Study(epath.Path(tmp_path), StudySettings(), BASES["bagel"]).rewards(1, "base")


def test_tasks_are_dealt_to_processes_and_models_that_are_there_are_passed_over(tmp_path, monkeypatch):
    study = steps.Study.begin(epath.Path(tmp_path), StudySettings(), trained_base())
    shutil.copytree(exported(study, "paper", 1), tmp_path / "b")
    seen = []
    monkeypatch.setattr(work, "run_side_by_side", lambda commands, environment, keep_open: seen.extend(
        tasks.from_json(epath.Path(command[-1]).read_text()) for command in commands))
    given = [tasks.Training("paper", seed, "r", str(tmp_path / "b"), "paper") for seed in range(4)]
    with at_work(study, 2) as at:
        at.do(given)
    assert seen == [[given[0], given[3]], [given[2]]]


def test_a_base_that_does_not_plan_is_refused(tmp_path):
    write_records(tmp_path / "r", 8, seed=3, wrong_share=0.0, image_size=48)
    with pytest.raises(SettingsError, match="found 0 of 8 plans that can be read"):
        require_plans(epath.Path(tmp_path / "r"))


def test_a_folder_holds_studies_of_one_size(tmp_path, capsys):
    (tmp_path / "study.json").write_text('{"steps": 7}')
    assert main(["--out", str(tmp_path), "--quick"]) == 2
    assert "steps: the folder 7, this command 150" in capsys.readouterr().err


def test_a_study_knows_its_settings_again(tmp_path):
    settings = StudySettings(seeds=2, guidance=(1.0, 3.0), think=True)
    begun = steps.Study.begin(epath.Path(tmp_path / "s"), settings, trained_base())
    assert steps.Study.begin(begun.out, settings, trained_base()) == steps.Study.read(begun.out) == begun
    with pytest.raises(BadInput, match="seeds: the folder 2, this command 3\n  think: the folder true"):
        steps.Study.begin(begun.out, StudySettings(guidance=(1.0, 3.0)), trained_base())
    with pytest.raises(SettingsError, match="cannot tell which family of models this is"):
        steps.Study.begin(epath.Path(tmp_path / "other"), settings, tmp_path)
    assert not (tmp_path / "other").exists()
    (begun.out / "study.json").write_text("[1")
    with pytest.raises(BadInput, match=r"study.json: not valid JSON"):
        steps.Study.begin(begun.out, settings, trained_base())


def test_tasks_survive_a_command_line():
    given = [tasks.Training("paper", 1, "r", "b", "paper"), tasks.Examination("base", ("a", "b"))]
    assert [dataclasses.astuple(task)[0] for task in tasks.from_json(tasks.to_json(given))] == ["paper", "base"]
    assert tasks.to_json(tasks.from_json(tasks.to_json(given))) == tasks.to_json(given)


def test_pictures_are_kept_without_loss(tmp_path):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    write_strip(tmp_path / "s.png", pictures)
    assert np.array_equal(read_strip(epath.Path(tmp_path / "s.png"), 5), pictures)


class PaintedExaminer:
    """Draws rendered truth instead of a model, and counts how often; without guidance, an empty picture."""

    def __init__(self, checkpoint, *, think):
        self.pipeline, self.think = checkpoint, think
        DRAWN.append(os.fspath(checkpoint))

    def best_guidance(self, prompts, scales, seed):
        return {f"{scale:g}": -abs(scale - 3.0) for scale in scales}

    def draw(self, prompts, guidance, seed, *, planned):
        if guidance == 1.0:
            return [np.full((48, 48, 3), 235, np.uint8)] * len(prompts)
        return [render(scene_of(prompt, seed), 48).image for prompt in prompts]


DRAWN = []


def scene_of(prompt, seed):
    return lay_out(draft_of(prompt, np.random.default_rng(seed)), np.random.default_rng(seed))


@pytest.mark.parametrize("think", [False, True])
def test_an_exam_marks_every_way_of_drawing_once_and_is_kept(tmp_path, monkeypatch, capsys, think):
    monkeypatch.setattr(exam, "Examiner", PaintedExaminer)
    monkeypatch.setattr(exam, "understanding", lambda pipeline, count: {"accuracy": count / 256})
    DRAWN.clear()
    settings = StudySettings(seeds=2, evaluation_prompts_per_category=2, validation_prompts_per_category=1,
                                   think=think)
    study = steps.Study.begin(epath.Path(tmp_path), settings, trained_base())
    for _ in range(2):
        exam.Exam(study).take("paper, 2nd round", ["first", "second"])
    assert DRAWN == ["first", "second"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 * 2 * (3 + think)
    assert said[0].startswith("seed 0, guidance chosen for each model: 100.0 % fit")

    found = exam.Exam(study)
    assert found.ways == (exam.GUIDED, exam.COMMON, exam.PLAIN, exam.PLANNED)[:3 + think]
    assert found.guidance("paper, 2nd round", exam.COMMON) == found.guidance("paper, 2nd round", exam.PLANNED) == 2.0
    assert found.guidance("paper, 2nd round", exam.GUIDED) == 3.0
    for way in found.ways:
        guided = way != exam.PLAIN
        assert [marks.fit.mean() for marks in found.marks("paper, 2nd round", way)] == [guided, guided]
        assert len(found.shown_pictures("paper, 2nd round", way)) == len(found.shown_prompts) == 8
    assert len({prompt.category for prompt in found.shown_prompts}) == 8
    assert found.understanding("paper, 2nd round") == {"accuracy": 0.5}
    (tmp_path / "marks" / "paper-2nd-round" / "1.json").unlink()
    with pytest.raises(FileNotFoundError, match="this examination was not taken to its end"):
        found.marks("paper, 2nd round", exam.GUIDED)


def test_training_that_was_stopped_early_is_not_taken_for_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(steps.train, "main", lambda words: 0)  # as after SIGTERM: saved, and exit code 0
    study = steps.Study(epath.Path(tmp_path), StudySettings(), BASES["bagel"])
    with pytest.raises(steps.StudyError, match="training was stopped before step 300; give the same command again"):
        study.model("paper", 0, epath.Path("rewards"), "base")
    assert not (tmp_path / "models").exists()


# Of the tiny Janus-Pro; the study of methods goes the same way with the tiny BAGEL.
SMALLEST = ("--quick", "--base", "janus", "--second-round", "--variants", "paper", "--prompts-per-category", "1",
            "--steps", "4", "--evaluation-prompts-per-category", "1", "--validation-prompts-per-category", "1",
            "--understanding-pictures", "8")


@dataclasses.dataclass
class Taken:
    """A study that was stopped while its first model was trained, and what the same command then made of it."""

    out: pathlib.Path
    stopped: commands.Finished
    marked_when_stopped: bool
    printed: str

    @property
    def table(self):
        return (self.out / "table.md").read_text()


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    first = commands.start_afresh("experiments.tiny_study", "--out", out, *SMALLEST)
    # The step is compiled, training begins.
    stopped = first.signal_when(lambda: "[train paper, seed 0] memory per device" in first.out, signal.SIGTERM)
    marked = (out / "marks").exists()
    code, printed, err = commands.run("experiments.tiny_study", "--out", out, *SMALLEST)
    assert code == 0, err
    return Taken(out, stopped, marked, printed)


@pytest.mark.slow
def test_a_study_that_is_interrupted_says_so_before_any_model_is_marked(taken):
    assert taken.stopped.code == 130, taken.stopped.err
    assert not taken.marked_when_stopped


@pytest.mark.slow
def test_the_same_command_goes_on_to_tables_plot_and_pictures_of_all_models(taken):
    assert taken.table in taken.printed and "[mark paper] seed 0, without guidance: " in taken.printed
    assert all(f"| {name} |" in taken.table for name in (
        "base", "paper", "paper, 2nd round", "1st round", "2nd round"))
    assert "The second round against the first: " in taken.table
    assert (taken.out / "plot.png").exists()
    with Image.open(taken.out / "pictures.png") as grid:
        assert grid.width > 500


@pytest.mark.slow
def test_the_second_round_starts_from_the_model_of_the_first(taken):
    first, second = (json.loads((taken.out / "models" / name / "recipe.json").read_text())
                     for name in ("paper-0", "paper-round2-0"))
    assert second["start"] == str(taken.out / "models" / "paper-0") != first["start"]


@pytest.mark.slow
def test_training_moves_what_draws_and_leaves_what_sees_and_codes_pictures(taken):
    before, after = (load_file(folder / "model.safetensors")
                     for folder in (trained_janus(), taken.out / "models" / "paper-0"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and not any(name.startswith(("gen_vision_model.", "vision_model.")) for name in changed)
    recipe = json.loads((taken.out / "models" / "paper-0" / "recipe.json").read_text())
    assert recipe["variant"]["objective"]["factor_floor"] == 0.0


@pytest.mark.slow
def test_a_study_that_is_done_changes_nothing_when_its_command_is_given_again(taken):
    before = taken.table
    assert commands.run("experiments.tiny_study", "--out", taken.out, *SMALLEST).code == 0
    assert taken.table == before


@pytest.mark.slow
@pytest.mark.nightly
def test_the_quick_study_improves_the_model_by_its_own_judgement(tmp_path):
    code, _, err = commands.run("experiments.tiny_study", "--quick", "--out", tmp_path / "study")
    assert code == 0, err
    # Ten points of difference are usual, with a standard error of two.
    base, paper = (json.loads((tmp_path / "study" / "marks" / name / "0-plain.json").read_text())
                   for name in ("base", "paper"))
    assert np.mean(paper["fit"]) >= np.mean(base["fit"]) + 0.02
    assert np.mean(paper["well_formed"]) >= 0.9
    assert json.loads((tmp_path / "study" / "own_judgement.json").read_text())["1st round"]["auc"] >= 0.7
