"""Judges that say nothing of use: on every benchmark, through the command, each reply is counted and none is a score.

What a benchmark's own rule makes of such a reply differs: a wrong answer (MME, MMVP), -1 (T2I-CompBench), or a failure
that leaves no number and ends with exit code 3.
"""

import json

import pytest
from PIL import Image

from srum_jax.evaluation.registry import NAMES, open_benchmark
from tests.evaluation import test_geneval, test_per_step, test_reasonbench, test_t2i_compbench, test_understanding
from tests.evaluation import test_wise as wise
from tests.evaluation.replayed import Evaluation
from tests.evaluation.test_endpoint import Server, serving
from tests.weights.tiny_qwen import write_qwen

OURS = ("--protocol", "srum_jax-1")
# Files, arguments, and what comes of it: exit code, failed items (None: all) and the overall number.
BENCHMARKS = {
    "shapes": ({}, (), 3, None, None),
    "t2i_compbench": ({"val_comp__json": test_t2i_compbench.ENTRIES}, OURS, 0, None, -1),
    "geneval": ({"evaluation_metadata__jsonl": test_geneval.FILE}, (), 3, None, None),
    "wise": ({"wise__json": wise.ENTRIES}, OURS, 3, None, None),
    "reasonbench": (test_reasonbench.files(), OURS, 3, None, None),
    "mme": (test_understanding.mme_files(), (), 0, 0, 0),
    "mmvp": ({"Questions__csv": test_understanding.QUESTIONS}, (), 0, 0, 0),
    "per_step": ({"val__json": test_per_step.ENTRIES[:2]}, ("--steps", "0,49"), 3, None, None),
}


def evaluated(folder, name, judge):
    """An evaluation of grey pictures, in the layout of the benchmark."""
    files, arguments, *expected = BENCHMARKS[name]
    evaluation = Evaluation(folder, name, **files)
    drawn_as = "50_no_think_steps_0.49" if name == "per_step" else "50_no_think"
    benchmark = open_benchmark(name, template="", drawn_as=drawn_as)
    items = benchmark.items({path.rpartition("/")[2]: open(path, "rb").read() for path in evaluation.paths})
    for item in items:
        for number in range(benchmark.images_per_item):
            path = folder / benchmark.image(item, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), "grey").save(path)
    code = evaluation.call(*arguments, "--judge", judge)
    return evaluation, code, expected


def check(evaluation, code, expected):
    expected_code, failed, overall = expected
    results = evaluation.results
    assert (code, results["complete"]) == (expected_code, expected_code == 0)
    assert results["scores"]["overall"] == pytest.approx(overall)  # a mean of eighths and thirds
    assert results["num_failed"] == len(results["failed"]) == (results["num_judged"] if failed is None else failed)
    assert results["num_images"] and not results["missing_images"]


def test_every_benchmark_stands_in_the_table():
    assert set(BENCHMARKS) == set(NAMES)


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("said", ["", "I cannot say."])
def test_a_server_that_says_nothing_of_use_gives_no_score(tmp_path, name, said):
    server = Server()
    server.reply = lambda text: said
    with serving(server) as url:
        evaluation, code, expected = evaluated(tmp_path, name, f"endpoint:{url},judge-1")
    check(evaluation, code, expected)
    replies = [json.loads(line) for line in (evaluation.out / "replies.jsonl").read_text().splitlines()]
    assert {line["text"] for line in replies} == {said} and sum(server.asked.values()) == len(replies)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    pytest.importorskip("torch")
    return write_qwen(tmp_path_factory.mktemp("Qwen2.5-VL-tiny"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmvp", "per_step", "reasonbench", "wise"])  # one of each way to ask
def test_a_vision_language_model_of_random_weights_gives_no_score(tmp_path, name, qwen):
    evaluation, code, expected = evaluated(tmp_path, name, f"transformers:{qwen}")
    check(evaluation, code, expected)
    assert evaluation.results["judge"]["id"] == qwen.name and len(evaluation.results["judge"]["revision"]) == 64
