"""GenEval: the public file, the official layout and results, and the rules for boxes of a detector."""

import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.evaluation.geneval import COUNTS, Detection, is_correct, relations_between
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.generation.records import GenerationRecord
from tests.evaluation.replayed import PUBLIC, Evaluation, reply

BENCHMARK = open_benchmark("geneval")
# One prompt of each task, and how many of its four images are correct.
ENTRIES = [
    {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"},
    {"tag": "two_object", "include": [{"class": "cup", "count": 1}, {"class": "dog", "count": 1}],
     "prompt": "a photo of a cup and a dog"},
    {"tag": "counting", "include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}],
     "prompt": "a photo of two cups"},
    {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"},
    {"tag": "position", "include": [{"class": "dog", "count": 1}, {"class": "cup", "count": 1,
                                                                 "position": ["left of", 0]}],
     "prompt": "a photo of a cup left of a dog"},
    {"tag": "color_attr", "include": [{"class": "cup", "count": 1, "color": "red"},
                                      {"class": "dog", "count": 1, "color": "black"}],
     "prompt": "a photo of a red cup and a black dog"},
]
CORRECT = (4, 3, 2, 1, 0, 2)
FILE = b"".join(json.dumps(entry).encode() + b"\n" for entry in ENTRIES)


def official_lines():
    return [{"filename": f"/images/{index:05d}/samples/{number:05d}.png", "tag": entry["tag"],
             "prompt": entry["prompt"], "correct": number < correct, "reason": "", "metadata": json.dumps(entry),
             "details": "{}"}
            for index, (entry, correct) in enumerate(zip(ENTRIES, CORRECT, strict=True)) for number in range(4)]


@pytest.fixture
def evaluation(tmp_path):
    return Evaluation(tmp_path, "geneval", evaluation_metadata__jsonl=FILE)


def score(evaluation, lines):
    path = evaluation.folder / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return evaluation.call("--judge", f"results:{path}")


def test_official_results_give_the_numbers_made_by_hand(evaluation):
    assert score(evaluation, official_lines()) == 0
    means = evaluation.means
    assert [means[tag] for tag in COUNTS] == [1, 0.75, 0.5, 0.25, 0, 0.5]
    assert means["overall"] == pytest.approx(0.5) and means["correct_images"] == pytest.approx(12 / 24)
    assert means["any_correct_prompts"] == pytest.approx(5 / 6)
    assert (evaluation.out / "tables" / "table.txt").read_text() == (
        "SO TO CT CL POS ATTR ALL\n1.00 0.75 0.50 0.25 0.00 0.50 0.50\n")


def test_results_that_are_missing_leave_no_overall_number_and_are_listed(evaluation):
    assert score(evaluation, [line for line in official_lines() if "00003/samples/00002" not in line["filename"]]) == 3
    found = evaluation.results
    assert found["scores"]["overall"] is None and list(found["failed"]) == ["00003"]
    assert "image 2" in found["failed"]["00003"]


def test_results_of_another_prompt_file_are_failures(evaluation):
    lines = official_lines()
    lines[0]["prompt"] = "a photo of a mug"
    assert score(evaluation, lines) == 3 and "a photo of a mug" in evaluation.results["failed"]["00000"]


@pytest.mark.parametrize(("change", "message"), [
    ({"filename": "a.png"}, "results.jsonl:1: field 'filename'"),
    ({"correct": "yes"}, "results.jsonl:1: field 'correct'"),
    ({"filename": "00000/samples/0001.png"}, "results.jsonl:2: field 'filename': a result of 00000/samples/00001.png"),
])
def test_results_that_cannot_be_used_are_named_by_line_and_field(evaluation, capsys, change, message):
    lines = official_lines()
    lines[0] |= change
    assert score(evaluation, lines) == 2 and message in capsys.readouterr().err


def test_the_layout_is_the_official_one():
    items = BENCHMARK.items({"evaluation_metadata.jsonl": FILE})
    assert BENCHMARK.image(items[3], 2) == "00003/samples/0002.png"
    beside = BENCHMARK.beside_images(items, dict[tuple[str, int], GenerationRecord]())
    assert json.loads(beside["00003/metadata.jsonl"]) == ENTRIES[3] and len(beside) == 6
    assert BENCHMARK.drawing.images_per_prompt == 4


def box(x, y, side=10.0, **fields):
    return Detection((x, y, x + side, y + side), fields.pop("score", 0.95), **fields)


@pytest.mark.parametrize(("entry", "objects", "correct"), [
    (0, {"cup": [box(0, 0)]}, True), (0, {"cup": [box(0, 0, score=0.3)]}, False), (0, {"dog": [box(0, 0)]}, False),
    (1, {"cup": [box(0, 0)], "dog": [box(9, 9)]}, True), (1, {"cup": [box(0, 0)]}, False),
    (2, {"cup": [box(0, 0), box(20, 0)]}, True), (2, {"cup": [box(0, 0)]}, False),
    (2, {"cup": [box(0, 0), box(20, 0), box(40, 0)]}, False),
    (2, {"cup": [box(0, 0), box(20, 0), box(40, 0, score=0.9)]}, True),
    (3, {"cup": [box(0, 0, color="red")]}, True), (3, {"cup": [box(0, 0, color="blue")]}, False),
    (4, {"dog": [box(50, 0)], "cup": [box(0, 0)]}, True), (4, {"dog": [box(0, 0)], "cup": [box(50, 0)]}, False),
    (4, {"dog": [box(1, 0)], "cup": [box(0, 0)]}, False),
    (5, {"cup": [box(0, 0, color="red")], "dog": [box(9, 0, color="black")]}, True),
    (5, {"cup": [box(0, 0, color="black")], "dog": [box(9, 0, color="red")]}, False),
])
def test_an_image_is_correct_if_all_that_is_asked_for_was_detected(entry, objects, correct):
    assert is_correct(ENTRIES[entry], objects) is correct


@pytest.mark.parametrize(("other", "expected"), [
    ((50, 0), {"left of"}), ((-50, 0), {"right of"}), ((0, 50), {"above"}), ((0, -50), {"below"}),
    ((50, 50), {"left of", "above"}), ((2, 0), set()), ((0, 0), set()), ((2.1, 0), set()), ((50, 12), {"left of"}),
])
def test_a_relation_holds_beyond_a_tenth_of_both_sizes_and_in_its_direction(other, expected):
    assert relations_between(box(0, 0).box, box(*other).box) == expected


def test_recorded_boxes_are_scored_without_a_detector(evaluation):
    found = [{"cup": [{"box": [0, 0, 9, 9], "score": 0.95, "color": "red"}, {"box": [20, 0, 29, 9], "score": 0.95}],
              "dog": [{"box": [50, 0, 59, 9], "score": 0.5, "color": "black"}]}] * 3 + [{}]
    replies = [reply(f"{index:05d}", json.dumps({"objects": found[number]}), call="detect", image=number)
               for index in range(6) for number in range(4)]
    assert evaluation.run(replies, "--protocol", "srum_jax-detector-1") == 0
    assert {evaluation.means[tag] for tag in COUNTS} == {0.75}
    assert evaluation.means["any_correct_prompts"] == pytest.approx(1)


@pytest.mark.parametrize(("change", "message"), [
    ({"tag": "colour"}, "evaluation_metadata.jsonl:1: field 'tag'"),
    ({"include": [{"class": "cup"}]}, r"field 'include\[0\].count': expected a positive number, found None"),
    ({"include": [{"class": "cup", "count": 1, "color": "mauve"}]}, r"field 'include\[0\].color'"),
    ({"include": [{"class": "cup", "count": 1, "position": ["near", 0]}]}, r"field 'include\[0\].position'"),
    ({"prompt": 3}, "field 'prompt': expected str, found 3"),
])
def test_metadata_that_cannot_be_used_is_named_by_line_and_field(change, message):
    data = json.dumps(ENTRIES[0] | change).encode()
    with pytest.raises(BadInput, match=message):
        BENCHMARK.items({"evaluation_metadata.jsonl": data})


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public prompt files are not here")
def test_the_public_file_is_as_described():
    items = BENCHMARK.items({"e.jsonl": (PUBLIC / "evaluation_metadata.jsonl").read_bytes()})
    names = set((PUBLIC / "object_names.txt").read_text().splitlines())
    assert {tag: sum(item.category == tag for item in items) for tag in COUNTS} == COUNTS
    assert len(items) == len({item.prompt for item in items}) == 553 and len(names) == 80
    assert {one["class"] for item in items for one in item.extra["metadata"]["include"]} <= names
    positions = [one["position"][0] for item in items for one in item.extra["metadata"]["include"] if "position" in one]
    assert [positions.count(name) for name in ("left of", "right of", "above", "below")] == [19, 27, 26, 28]
