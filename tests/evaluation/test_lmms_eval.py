"""lmms-eval drives our models: its installed package finds the adapter and runs tasks made of local files."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.inference.requests import Answer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import draft_of, lay_out
from srum_jax.worlds.shapes.prompts import parse_prompt
from tests.commands import run_afresh
from tests.families.tiny import TINY_BASES

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed; .ci/run has the command")

from lmms_eval.api.instance import Instance

from srum_jax.lmms_eval import Decoding, SrumJax

QUESTION = "what is in the picture"
SEEN = ("solid red circle", "solid blue square", "solid green triangle")


class Parrot:
    """Answers with the question and its pictures' sizes, "and so on"; likes short answers."""

    def __init__(self):
        self.asked = []

    def answer(self, questions, *, sampler, think):
        self.asked.append((len(questions), sampler, think))
        texts = [f"{question.prompt} {[image.size for image in question.images]} and so on" for question in questions]
        return [Answer(text, None, False, len(text.split()), text) for text in texts]

    def texts(self, questions, answers):
        return np.array([-len(answer) for answer in answers], np.float32)


@pytest.fixture
def parrot():
    model = SrumJax.__new__(SrumJax)
    pipeline = Parrot()
    pipeline.scorer = pipeline
    model.pipeline, model.batch_size, model.think, model._checkpoint = pipeline, 3, False, "parrot"
    model.task_dict = {"birds": {"test": [Image.new("RGB", (8 + number, 8)) for number in range(5)]}}
    return model


def request(kind, context, how, document=0, visual=lambda picture: [picture]):
    return Instance(kind, (context, how, visual, document, "birds", "test"), 0,
                    {"task": "birds", "doc_id": document, "repeats": 1})


def test_answers_come_in_the_order_of_the_requests_whatever_shares_a_batch(parrot):
    found = parrot.generate_until([
        request("generate_until", f"<image>what{'?' * (5 - number)}", {"max_new_tokens": 4 + number % 2}, number)
        for number in range(5)])

    assert [result.text for result in found] == [f"what{'?' * (5 - number)} [({8 + number}, 8)] and so on"
                                                 for number in range(5)]
    assert [result.token_counts.output_tokens for result in found] == [6] * 5
    # Full batches, each of one way to decode; the marker that starts an answer counts.
    assert [(rows, sampler.max_tokens) for rows, sampler, _ in parrot.pipeline.asked] == [(3, 5), (3, 6)]


def test_an_answer_ends_before_the_first_stop_and_a_question_needs_no_picture(parrot):
    found = parrot.generate_until([request("generate_until", "what", {"until": ["so", "and"]}, visual=lambda _: None)])

    assert found[0].text == "what [] "


@pytest.mark.parametrize(("settings", "temperature"), [
    ({}, None), ({"temperature": 0, "top_p": 0.9, "num_beams": 1}, None), ({"temperature": 0.5}, 0.5),
    ({"temperature": 0.5, "do_sample": False}, None), ({"do_sample": True}, 1.0),
])
def test_a_task_is_decoded_as_it_asks_to_be(settings, temperature):
    assert Decoding.of(settings).sampler.temperature == temperature


@pytest.mark.parametrize(("settings", "named"), [
    ({"num_beams": 3}, "num_beams"), ({"temperature": 0.5, "top_p": 0.9}, "top_p"),
    ({"repetition_penalty": 1.1}, "repetition_penalty"),
])
def test_another_decoding_than_ours_is_refused(settings, named):
    with pytest.raises(BadInput, match=named):
        Decoding.of(settings)


def test_a_given_answer_has_its_loss_and_is_greedy_if_the_model_says_it_and_no_more(parrot):
    whole = "what [(9, 8)] and so on"
    found = parrot.loglikelihood([request("loglikelihood", "what", f" {text}", 1)
                                  for text in (whole, whole[:-3], whole + " and on", "no")])

    assert [result.text for result in found] == [(23.0, True), (20.0, False), (30.0, False), (2.0, False)]
    # One greedy answer for all choices of a question, with room for more tokens than the longest has bytes.
    assert [sampler.max_tokens for _, sampler, _ in parrot.pipeline.asked] == [33]


def test_what_cannot_be_asked_is_named_by_task_and_document(parrot, tmp_path):
    with pytest.raises(BadInput, match=r"birds, document 3: .*none\.png"):
        parrot.generate_until([request("generate_until", "what", {}, 3, lambda _: [str(tmp_path / "none.png")])])
    with pytest.raises(BadInput, match=r"birds, document 2: image: .*found bytes"):
        parrot.generate_until([request("generate_until", "what", {}, 2, lambda _: [b""])])
    with pytest.raises(BadInput, match="birds"):
        parrot.generate_until_multi_round([request("generate_until_multi_round", "what", {})])


@pytest.mark.parametrize(("arguments", "named"), [
    ({"family": "janus_pro"}, "family"), ({"batch_size": "auto"}, "batch_size"), ({"device": "cuda:0"}, "device"),
])
def test_arguments_that_cannot_be_used_are_named(arguments, named):
    with pytest.raises(BadInput, match=named):
        SrumJax(str(trained_base()), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", TINY_BASES, ids=lambda tiny: tiny.family)
def test_every_family_answers_and_says_how_likely_answers_are_or_that_it_cannot(tiny, monkeypatch):
    devices = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    model = SrumJax(str(tiny.checkpoint()), family=tiny.family, dtype="float32", batch_size=1)
    model.task_dict = {"birds": {"test": [Image.fromarray(tiny.picture)]}}
    said = model.generate_until([request("generate_until", tiny.question, {"max_new_tokens": 6})])[0].text

    assert said == model.pipeline.answer([SimpleNamespace(prompt=tiny.question, images=(tiny.picture,), seed=0)],
                                         sampler=Decoding.of({"max_new_tokens": 6}).sampler)[0].text
    given = [request("loglikelihood", tiny.question, text) for text in ("red", "blue")]
    if model.pipeline.scorer is None:
        with pytest.raises(BadInput, match=tiny.family):
            model.loglikelihood(given)
    else:
        losses = [result.text[0] for result in model.loglikelihood(given)]
        assert np.isfinite(losses).all() and losses[0] != losses[1]


TASKS = {
    "captions.yaml": """
task: tiny_captions
output_type: generate_until
doc_to_target: "{{caption}}"
generation_kwargs: {max_new_tokens: 8, temperature: 0, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    "choices.yaml": f"""
task: tiny_choices
output_type: multiple_choice
doc_to_target: "{{{{caption}}}}"
doc_to_choice: {json.dumps(SEEN)}
metric_list:
- {{metric: acc, aggregation: mean, higher_is_better: true}}
- {{metric: exact_match, aggregation: mean, higher_is_better: true}}
""",
}


@pytest.fixture
def tasks(tmp_path):
    """Three pictures that the shipped base knows, and two tasks about them, as lmms-eval has them in folders."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    lines = []
    for number, caption in enumerate(SEEN):
        rng = np.random.default_rng(number)
        scene = lay_out(draft_of(parse_prompt(f"a {caption.removeprefix('solid ')}"), rng), rng)
        Image.fromarray(render(scene, 48).image).save(folder / f"{number}.png")
        lines.append(json.dumps({"picture": str(folder / f"{number}.png"), "caption": caption}))
    (folder / "documents.jsonl").write_text("\n".join(lines))
    (folder / "pictures.py").write_text("def pictures(document):\n    return [document['picture']]\n")
    for name, text in TASKS.items():
        (folder / name).write_text(
            f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/documents.jsonl}}}}\n"
            f"test_split: test\ndoc_to_visual: !function pictures.pictures\ndoc_to_text: {QUESTION}\n{text}")
    return folder


@pytest.mark.slow
def test_the_installed_package_finds_the_model_and_runs_tasks_of_both_kinds(tasks, tmp_path):
    done = run_afresh(
        "lmms_eval", "--model", "srum_jax", "--model_args", f"checkpoint={trained_base()},family=bagel,dtype=float32",
        "--include_path", tasks, "--tasks", "tiny_captions,tiny_choices", "--batch_size", 2, "--output_path",
        tmp_path / "out", env={"HF_HOME": str(tmp_path / "cache"), "HF_DATASETS_OFFLINE": "1"})

    assert done.code == 0, done.err[-3000:]
    [written] = (tmp_path / "out").rglob("*results.json")
    results = json.loads(written.read_text())["results"]
    assert results["tiny_captions"]["exact_match,none"] == 1
    assert results["tiny_choices"]["acc,none"] == 1
    assert results["tiny_choices"]["exact_match,none"] == 1
