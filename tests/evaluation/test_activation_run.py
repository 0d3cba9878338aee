"""The command that measures neurons: samples, streaming sums, several models in one folder, and a real model."""

import dataclasses
import itertools
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from etils import epath
from PIL import Image
from safetensors.numpy import load_file

from srum_jax import evaluate
from srum_jax.errors import BadInput, Failure, Incomplete
from srum_jax.evaluation.activation import GENERATION, UNDERSTANDING, ClusterRule
from srum_jax.evaluation.activation_run import ActivationConfig, ActivationRun, ComparedModel
from srum_jax.evaluation.activation_samples import CALIBRATION, MEASURED, read_samples, split
from srum_jax.families.registry import family_of
from srum_jax.inference.requests import RequestError
from srum_jax.inference.settings import TextSampler

SHAPE = (2, 50)
CONFIG = ActivationConfig(samples=16, clusters=ClusterRule(least=2.0))
BASE = "srum_jax/worlds/shapes/base_weights"


def questions(pairs):
    lines = [f"{number},What is shown?,(a) a circle (b) a square,({'ab'[number % 2]})"
             for number in range(1, 2 * pairs + 1)]
    return ("Index,Question,Options,Correct Answer\n" + "\n".join(lines) + "\n").encode()


def prompts(per_category):
    pairs = list(itertools.product(("red", "green", "blue", "yellow"), ("circle", "square", "triangle", "ring")))
    return json.dumps([
        {"Question": f"a {color} {shape} {between}", "Category": category, "Question_id": 100 * place + number}
        for place, (category, between) in enumerate((
            ("color", "and a blue square"), ("shape", "left of a red ring"), ("complex_action", "above a blue ring")))
        for number, (color, shape) in enumerate(pairs[:per_category])]).encode()


def files(pairs=16, per_category=16):
    return {"Questions.csv": questions(pairs), "val_comp.json": prompts(per_category)}


@pytest.fixture
def images(tmp_path):
    (tmp_path / "mmvp" / "MMVP Images").mkdir(parents=True)
    for number in range(1, 33):
        pixels = np.full((48, 48, 3), 255, np.uint8)
        pixels[8:40, 8:40] = np.random.default_rng(number).integers(0, 255, 3)
        Image.fromarray(pixels).save(tmp_path / "mmvp" / "MMVP Images" / f"{number}.jpg")
    return tmp_path / "mmvp"


class Planted:
    """Neurons of which two answer to one task each, and the rest to none; counts what it was asked."""

    shape = SHAPE

    def __init__(self, height=4.0, stop_after=None):
        self.height, self.stop_after, self.seen = height, stop_after, 0
        self.plans, self.seeds = set(), set()

    def _values(self, names, neuron):
        if self.stop_after is not None and self.seen + len(names) > self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(names)
        values = np.stack([np.random.default_rng(list(name.encode())).normal(size=SHAPE) for name in names])
        values[:, *neuron] += self.height
        return values.astype(np.float32)

    def answering(self, questions, answers, *, gated=False):
        return self._values([f"{question.images[0][20, 20].tolist()}{answer}" for question, answer in
                             zip(questions, answers, strict=True)], (0, 7))

    def drawing(self, requests, *, plan=None, gated=False):
        self.plans.add(plan)
        self.seeds |= {request.seed for request in requests}
        return self._values([request.prompt for request in requests], (1, 3))


class Answers:
    def answer(self, questions, *, sampler):
        return [types.SimpleNamespace(text="(a)") for _ in questions]


def measured(root, images, name, neurons, batch_size=3, checksum=None, config=CONFIG):
    run = ActivationRun(root, files(), config)
    model = ComparedModel(name, checksum or name)
    run.begin(model, {"dtype": "float32"}, run.check(types.SimpleNamespace(check=lambda request: None), images))
    run.measure(model, neurons, Answers(), images, batch_size)
    return run


def test_sets_are_disjoint_even_over_categories_and_keep_the_questions_of_a_pair_together():
    samples = read_samples(files())
    assert {sample.category for sample in samples[GENERATION]} == {"color", "shape"}, "parts of complex are left out"
    sets = split(samples, 16)
    for task in (UNDERSTANDING, GENERATION):
        assert [len(sets[name][task]) for name in (CALIBRATION, MEASURED)] == [16, 16]
        items = [{sample.item for sample in sets[name][task]} for name in (CALIBRATION, MEASURED)]
        assert not items[0] & items[1]
    assert sum(sample.category == "color" for sample in sets[MEASURED][GENERATION]) == 8
    again = split({task: found[::-1] for task, found in samples.items()}, 16)
    assert {sample.id for sample in again[MEASURED][GENERATION]} == {
        sample.id for sample in sets[MEASURED][GENERATION]}, "their order does not matter"


def test_a_question_is_asked_as_its_benchmark_asks_it_about_its_own_picture():
    found = read_samples({**files(), "color.txt": b"a.jpg\tIs it a cup?\tYes\na.jpg\tIs it a dog?\tNo\n"})
    mme, mmvp = found[UNDERSTANDING][:2], found[UNDERSTANDING][3]
    assert [sample.prompt.split("?")[0] for sample in mme] == ["Is it a cup", "Is it a dog"]
    assert {sample.image for sample in mme} == {"color/a.jpg"} and mmvp.image == "MMVP Images/2.jpg"
    assert mmvp.prompt.startswith("What is shown?\n(a) a circle (b) a square")


@pytest.mark.parametrize(("count", "given", "message"), [
    (16, files(pairs=15), "questions: expected 32 samples, to calibrate on and to measure, found 30"),
    (16, files(per_category=15), "category color: expected 16 samples, .* found 15"),
    (15, files(), "activation.samples: expected an even multiple of the 2 categories"),
    (16, {"val_comp.json": prompts(16)}, "--prompts: expected prompts of T2I-CompBench .* and questions"),
    (16, {"Questions.csv": questions(16)}, "--prompts: expected prompts of T2I-CompBench")])
def test_too_few_samples_are_refused(count, given, message):
    with pytest.raises(BadInput, match=message):
        split(read_samples(given), count)


def test_planted_neurons_are_found_on_the_base_and_measured_on_every_model(tmp_path, images):
    measured(tmp_path / "out", images, "base", Planted())
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("activation")] == []
    weaker = Planted(height=1.0)
    run = measured(tmp_path / "out", images, "sft", weaker, batch_size=5)
    assert weaker.seen == 32, "clusters are of the base model alone"
    results = run.score()
    assert results["complete"] and results["base"] == "base" and set(results["models"]) == {"base", "sft"}
    clusters = load_file(tmp_path / "out" / "clusters.safetensors")
    assert clusters[UNDERSTANDING].tolist() == [[0, 7]]
    assert clusters[GENERATION].tolist() == [[1, 3]]
    by_model = {name: found[UNDERSTANDING][UNDERSTANDING]["strength"] for name, found in results["models"].items()}
    assert by_model["base"] - by_model["sft"] == pytest.approx(3, abs=1e-5)
    assert json.loads((tmp_path / "out" / "activation.json").read_text()) == json.loads(json.dumps(results))
    assert (tmp_path / "out" / "activation.svg").read_text().count("<polyline") == 4


def test_the_table_is_written_without_a_model_and_without_jax(tmp_path, images):
    measured(tmp_path / "out", images, "base", Planted())
    words = ["--benchmark", "activation", "--stage", "score", "--out", str(tmp_path / "out"), "--set",
             "activation.clusters.least=2"]
    program = (f"import sys; from srum_jax import evaluate; code = evaluate.main({words}); "
               "sys.exit(code or 'jax' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "base, samples gen, cluster gen: " in done.stdout and "n = 16" in done.stdout


def test_a_run_that_was_cut_off_goes_on_with_the_samples_that_are_left(tmp_path, images):
    whole = measured(tmp_path / "whole", images, "base", Planted()).score()
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "out", images, "base", Planted(stop_after=20))
    run = ActivationRun(tmp_path / "out", None, CONFIG)
    with pytest.raises(Incomplete, match="samples of the base model base are missing"):
        run.score()
    rest = Planted()
    again = measured(tmp_path / "out", images, "base", rest, batch_size=4).score()
    assert 44 <= rest.seen < 64
    assert again["clusters"] == whole["clusters"]
    assert again["models"]["base"]["gen"]["gen"]["strength"] == pytest.approx(
        whole["models"]["base"]["gen"]["gen"]["strength"])


def test_a_model_of_which_samples_are_missing_is_counted_and_not_in_the_table(tmp_path, images):
    run = measured(tmp_path / "out", images, "base", Planted())
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "out", images, "srum", Planted(stop_after=4))
    results = run.score()
    assert not results["complete"] and results["missing"] == {"srum": {"measured-und": 13, "measured-gen": 16}}
    assert set(results["models"]) == {"base"}


def test_what_does_not_belong_to_the_folder_is_refused(tmp_path, images):
    run = measured(tmp_path / "out", images, "base", Planted())
    with pytest.raises(BadInput, match="checkpoint_sha256"):
        measured(tmp_path / "out", images, "base", Planted(), checksum="other")
    with pytest.raises(BadInput, match=r"settings\.gated"):
        measured(tmp_path / "out", images, "base", Planted(), config=ActivationConfig(samples=16, gated=True))
    Image.new("RGB", (48, 48)).save(images / "MMVP Images" / "3.jpg")
    with pytest.raises(BadInput, match="pictures_sha256"):
        measured(tmp_path / "out", images, "base", Planted())
    (images / "MMVP Images" / "4.jpg").unlink()
    with pytest.raises(Incomplete, match=r"1 of 32 pictures .* MMVP Images/4\.jpg"):
        measured(tmp_path / "out", images, "base", Planted())
    strict = ActivationRun(tmp_path / "out", None, ActivationConfig(samples=16, clusters=ClusterRule(least=50.0)))
    with pytest.raises(BadInput, match="selectivity of at least 50"):
        strict.score()
    path = tmp_path / "out" / "models" / "base" / "measured-und.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(BadInput, match=r"measured-und\.safetensors: expected sums over neurons"):
        run.score()


def test_experts_plans_and_how_pictures_are_drawn_belong_to_the_folder(tmp_path, images):
    config = ActivationConfig(samples=16, clusters=ClusterRule(least=2.0), experts="all", plan_tokens=9)
    neurons = Planted()
    run = measured(tmp_path / "out", images, "base", neurons, config=config)
    assert neurons.plans == {TextSampler(max_tokens=9)} and len(neurons.seeds) == 32, "a noise of its own for each"
    again = ActivationRun.begun(tmp_path / "out", ClusterRule(least=2.0))
    assert again.config == config and again.score()["settings"]["experts"] == "all"
    checker = types.SimpleNamespace(check=lambda request: None)
    with pytest.raises(BadInput, match=r"settings\.drawn"):
        run.begin(ComparedModel("base", "base"), {"dtype": "float32"}, run.check(checker, images),
                  drawn={"num_timesteps": 25})
    with pytest.raises(BadInput, match=r"settings\.experts"):
        measured(tmp_path / "out", images, "base", Planted())


def test_a_prompt_that_the_model_cannot_be_given_and_values_that_are_none_are_named(tmp_path, images):
    def check(request):
        raise RequestError("prompt: expected fewer tokens")

    run = ActivationRun(tmp_path / "out", files(), ActivationConfig(samples=16))
    with pytest.raises(BadInput, match=r"mmvp/.*: prompt: expected fewer tokens"):
        run.check(types.SimpleNamespace(check=check), images)
    with pytest.raises(Failure, match=r"mmvp/\d+/\d/answer: a neuron's value is not finite"):
        measured(tmp_path / "out", images, "base", Planted(height=np.nan))


@pytest.mark.parametrize(("words", "message"), [
    (["--judge", "oracle"], "--judge: expected none"),
    (["--stage", "judge"], "nobody is judged"),
    (["--stage", "score"], "expected the folder of an evaluation"),
    ([], "--prompts: expected prompts of T2I-CompBench"),
    (["--set", "activation.samples=1"], "expected at least 2, found 1"),
    (["--set", "activation.experts=both"], "experts: expected one of understanding, all, found 'both'"),
    (["--set", "activation.plan_tokens=1"], "expected an integer of at least 2"),
    (["--size", "48x48"], "--size: expected none"),
    (["--set", "activation.clusters.share=2"], r"expected a share in (0, 1]")])
def test_arguments_that_do_not_go_with_it_are_refused(tmp_path, capsys, words, message):
    assert evaluate.main(["--benchmark", "activation", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_model_and_pictures_have_to_be_given_and_its_family_has_to_serve(tmp_path, capsys, images, monkeypatch):
    for name, data in files().items():
        (tmp_path / name).write_bytes(data)
    words = ["--benchmark", "activation", "--out", str(tmp_path / "out"), "--set", "activation.samples=16",
             "--prompts", str(tmp_path / "Questions.csv"), str(tmp_path / "val_comp.json")]
    mute = dataclasses.replace(family_of(BASE), neurons=None)
    monkeypatch.setattr(evaluate, "family_of", lambda checkpoint: mute)
    for more, message in (([], "--checkpoint: expected the model"),
                          (["--checkpoint", BASE], "--images: expected the folder"),
                          (["--checkpoint", BASE, "--images", str(images)],
                           "expected a model whose neurons can be looked at")):
        assert evaluate.main([*words, *more]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_no_neuron_of_the_generation_expert_of_the_shipped_base_serves_understanding(tmp_path, images):
    for name, data in files().items():
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    assert evaluate.main([
        "--benchmark", "activation", "--out", str(out), "--dtype", "float32", "--images", str(images), "--checkpoint",
        BASE, "--model-id", "base", "--prompts", str(tmp_path / "Questions.csv"), str(tmp_path / "val_comp.json"),
        *(word for setting in ("activation.samples=16", "activation.answer_tokens=4", "activation.experts=all",
                               "activation.gated=true", "sampler.num_timesteps=4")
          for word in ("--set", setting))]) == 0
    channels = json.loads((epath.Path(BASE) / "llm_config.json").read_text())["intermediate_size"]
    clusters = load_file(out / "clusters.safetensors")
    assert (clusters[UNDERSTANDING][:, 1] < channels).all(), "the others are 0 in a question, and positive otherwise"
    assert (clusters[GENERATION][:, 1] >= channels).mean() > 0.5
    assert json.loads((out / "activation.json").read_text())["settings"]["drawn"]["num_timesteps"] == 4


@pytest.mark.slow
def test_the_neurons_of_the_shipped_base_are_measured(tmp_path, images, capsys):
    for name, data in files().items():
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    words = ["--benchmark", "activation", "--out", str(out), "--set", "activation.samples=16", "--dtype", "float32",
             "--set", "activation.answer_tokens=4"]
    assert evaluate.main([*words, "--prompts", str(tmp_path / "Questions.csv"), str(tmp_path / "val_comp.json"),
                          "--images", str(images), "--checkpoint", BASE, "--model-id", "base"]) == 0
    assert "base, samples und, cluster und" in capsys.readouterr().out
    results = json.loads((out / "activation.json").read_text())
    assert results["complete"] and all(found["size"] for found in results["clusters"].values())
    found = results["models"]["base"]
    assert found["und"]["und"]["standardised"] > 0 > found["gen"]["und"]["standardised"]
    assert found["gen"]["gen"]["standardised"] > 0 > found["und"]["gen"]["standardised"]
    before = (out / "activation.json").read_bytes()
    again = ["--benchmark", "activation", "--out", str(out), "--stage", "score"]
    assert evaluate.main(again) == 0 and (out / "activation.json").read_bytes() == before
    assert evaluate.main([*again, "--set", "activation.clusters.share=0.01"]) == 0
    fewer = json.loads((out / "activation.json").read_text())["clusters"]
    assert 0 < fewer["und"]["size"] < results["clusters"]["und"]["size"]
