"""T2I-CompBench: the shipped files, the reply parser, and scores of recorded replies against numbers made by hand."""

import collections
import csv
import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import Total
from srum_jax.evaluation.means import Scores
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.evaluation.reply_objects import hundred_point_score
from srum_jax.evaluation.t2i_compbench import COLUMNS, VALIDATION, overall_terms
from tests.evaluation.replayed import PUBLIC, Evaluation, reply

BENCHMARK = open_benchmark("t2i_compbench", template="", drawn_as="50_no_think")
# Two items of each category, and their scores.
SCORES = {"3d_spatial": (80, 60), "color": (90, 100), "complex": (50, 70), "complex_action": (90, 90),
          "complex_spatial": (20, 40), "non-spatial": (80, 80), "numeracy": (40, 60), "shape": (75, 85),
          "spatial": (70, 90), "texture": (88, 92)}
ENTRIES = [{"Question": f"a cup, {category} {number}", "Category": category, "Question_id": first + number}
           for category, (first, _) in VALIDATION.items() for number in (0, 1)]


def replies(**changes):
    """By id; `changes` replaces texts of items, named _ID."""
    return [reply(str(entry["Question_id"]),
                  changes.get(f"_{entry['Question_id']}",
                              json.dumps({"score": SCORES[entry["Category"]][index % 2], "explanation": "as seen"})))
            for index, entry in enumerate(ENTRIES)]


@pytest.fixture
def evaluation(tmp_path):
    return Evaluation(tmp_path, "t2i_compbench", val_comp__json=ENTRIES)


@pytest.mark.parametrize(("text", "strict", "loose"), [
    ('{"score": 85, "explanation": "good"}', 85, 85),
    ('```json\n{"score": 7, "explanation": "x"}\n```', 7, 7),
    ('I think {nice} this: {"explanation": "a {cup}", "score": 0}', 0, 0),
    ('"score": 42, and so on', 42, 42),
    ('{"score": "63", "explanation": "quoted"}', 63, 63),
    ('{"score": 63, "explanation": "cut o', 63, 63),
    ('{"score": 85.5}', None, 85.5),
    ('{"score": -1}', None, None), ('{"score": 101}', None, None), ("score 85", None, None), ("", None, None),
    ('{"score": true}', None, None), ('{"score": null} {"score": 12}', 12, 12),
])
def test_the_score_of_a_reply_is_found_or_it_is_a_failure(text, strict, loose):
    assert hundred_point_score(text, decimals=False) == strict
    assert hundred_point_score(text, decimals=True) == loose


def test_recorded_replies_give_the_numbers_made_by_hand(evaluation):
    assert evaluation.run(replies()) == 0
    means = evaluation.means
    assert means["color"] == 95 and means["complex"] == 60 and means["complex_action"] == 90
    assert means["complex_composite"] == pytest.approx((60 + 90 + 30) / 3)
    assert means["overall"] == pytest.approx((70 + 95 + 60 + 80 + 50 + 80 + 80 + 90) / 8)
    found = evaluation.results
    assert (found["protocol"], found["failures"], found["num_items"]) == ("srum-2025", "minus_one", 20)
    assert found["judge"]["id"] == "Qwen2.5-VL-72B-Instruct" and found["other_prompts"]["color"] == [2, 300]
    assert found["scores"]["color"]["stderr"] == pytest.approx(5.0)


def test_tables_are_written_in_the_authors_form(evaluation):
    assert evaluation.run(replies(_1702='{"score": 100, "explanation": "gr\u00fcn, \\"very\\""}')) == 0
    tables = evaluation.out / "tables"
    assert (tables / "summary_results.csv").read_bytes() == (
        b"Variant,Category,Mean_Score\n" + b"".join(
            f"no think,{name},{mean:.4f}\n".encode() for name, mean in [
                ("3d_spatial", 70), ("color", 95), ("complex", 60), ("complex_action", 90), ("complex_spatial", 30),
                ("non-spatial", 80), ("numeracy", 50), ("shape", 80), ("spatial", 80), ("texture", 90),
                ("Complex_Composite", 60), ("Overall_Weighted", 75.625)]))
    data = (tables / "color.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfquestion_id,prompt,category,image_path,question_text,score,"
                           b"full_evaluation_text\n")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert [row["score"] for row in rows] == ["90", "100"]
    assert rows[0]["image_path"] == "color_50_no_think/1701.png" and "gr\u00fcn" in rows[1]["full_evaluation_text"]


@pytest.mark.parametrize(("rule", "color"), [("minus_one", 44.5), ("zero", 45.0), ("exclude", 90.0)])
def test_a_failed_reply_counts_as_the_rule_says_and_the_other_rules_stand_beside(evaluation, rule, color):
    assert evaluation.run(replies(_1702="I cannot say."), "--failures", rule) == 0
    found = evaluation.results
    assert found["scores"]["color"]["mean"] == color and found["num_failed"] == 1 and "1702" in found["failed"]
    others = {"minus_one": 44.5, "zero": 45.0, "exclude": 90.0}
    del others[rule]
    assert {name: found["variants"][f"failures_{name}"]["color"]["mean"] for name in others} == others
    assert found["scores"]["overall"] == pytest.approx((70 + color + 60 + 80 + 50 + 80 + 80 + 90) / 8)


def test_another_rule_needs_no_judge(evaluation):
    assert evaluation.run(replies(_1702="?")) == 0
    assert evaluation.call("--stage", "score", "--failures", "exclude") == 0
    assert evaluation.means["color"] == 90


def test_fifty_everywhere_is_fifty(evaluation):
    assert evaluation.run([line | {"text": '{"score": 50}'} for line in replies()]) == 0
    assert evaluation.means["overall"] == pytest.approx(50)


TABLE_1 = {
    "FLUX.1-dev": (76.39, 90.63, 83.51, 87.47, 75.30, 80.20, 84.23, 87.07, 83.10),
    "FLUX.1-schnell": (79.38, 84.53, 81.96, 85.55, 72.82, 82.20, 85.49, 86.38, 82.29),
    "SD-3-medium": (77.83, 91.63, 84.73, 86.12, 72.80, 83.72, 88.20, 89.03, 84.26),
    "SD-XL-base-1": (72.25, 77.75, 75.00, 85.28, 57.14, 72.18, 77.08, 78.38, 74.38),
    "Janus-Pro": (76.17, 84.25, 80.28, 80.47, 56.43, 65.14, 79.67, 69.67, 74.01),
    "Show-o2": (88.61, 87.73, 87.88, 85.91, 69.74, 73.99, 86.60, 82.17, 82.83),
    "OmniGen2": (82.21, 92.22, 86.87, 88.51, 72.00, 83.95, 90.07, 90.88, 85.84),
    "BLIP3o": (81.73, 89.92, 85.55, 84.78, 71.67, 83.75, 92.47, 87.45, 84.66),
    "BLIP3o + SRUM": (83.78, 90.22, 86.57, 85.10, 74.52, 85.44, 93.88, 86.52, 85.75),
    "BAGEL": (77.98, 89.30, 83.32, 85.03, 70.40, 81.94, 81.52, 87.93, 82.18),
    "BAGEL + SRUM": (83.10, 92.90, 88.69, 88.47, 78.52, 84.23, 86.92, 89.57, 86.55),
    "BAGEL, plan": (84.66, 88.85, 86.10, 85.64, 75.36, 84.33, 82.71, 88.07, 84.46),
    "BAGEL + SRUM, plan": (88.60, 92.90, 91.31, 90.48, 80.12, 84.47, 89.93, 89.15, 88.37),
}


@pytest.mark.parametrize("model", TABLE_1)
def test_the_overall_number_of_every_row_of_table_1_follows_from_its_columns(model):
    *columns, overall = TABLE_1[model]
    means = dict(zip(COLUMNS, columns, strict=True))
    items = BENCHMARK.items({"a.json": json.dumps(ENTRIES).encode()})
    scores = {item.id: BENCHMARK.read(item, [[]]) for item in items}
    scores = {item.id: type(scores[item.id])(item.id, item.category, {"score": means[
        "complex" if item.category.startswith("complex") else item.category]}) for item in items}
    assert Scores(items, scores).mean(Total("overall", overall_terms())).mean == pytest.approx(overall, abs=0.00501)


@pytest.mark.parametrize(("entries", "message"), [
    ([{"Question": "a cup", "Category": "color"}], "entry 0: field 'Question_id': expected int, found no such field"),
    ([ENTRIES[0], ENTRIES[0]], "entry 1: field 'Question_id': 701 is also that of entry 0"),
    ([ENTRIES[0] | {"Category": "colour"}], "entry 0: field 'Category': expected one of"),
    ([], "expected a JSON array"), ({"a": 1}, "expected a JSON array"),
])
def test_a_file_that_cannot_be_used_names_entry_and_field(entries, message):
    with pytest.raises(BadInput, match=message):
        BENCHMARK.items({"val.json": json.dumps(entries).encode()})


def test_the_authors_question_is_not_part_of_the_package_and_ours_has_another_name(evaluation, capsys):
    assert evaluation.call("--judge", "model", "--stage", "judge") == 2
    assert "--judge-template: protocol srum-2025" in capsys.readouterr().err
    ours = open_benchmark("t2i_compbench", "srum_jax-1")
    call = next(ours.calls(ours.items({"a.json": json.dumps(ENTRIES).encode()})[0], 0))
    assert "a cup, 3d_spatial 0" in call.text and call.max_new_tokens == 512 and call.temperature is None


def test_ours_asks_again_with_a_reminder_and_the_authors_do_not():
    item = BENCHMARK.items({"a.json": json.dumps(ENTRIES).encode()})[0]
    for protocol, expected in (("srum-2025", 1), ("srum_jax-1", 3)):
        asked = open_benchmark("t2i_compbench", protocol, "$prompt ?").calls(item, 0)
        calls = [next(asked)]
        try:
            while True:
                calls.append(asked.send(type("Reply", (), {"text": "no", "finished": True, "healthy": True})()))
        except StopIteration:
            pass
        assert [call.attempt for call in calls] == list(range(1, expected + 1))
        assert all("JSON object only" in call.text for call in calls[1:])


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public prompt files are not here")
def test_the_public_validation_file_is_as_described():
    items = BENCHMARK.items({"val_comp.json": (PUBLIC / "val_comp.json").read_bytes()})
    train = json.loads((PUBLIC / "train_comp.json").read_text())
    for category, (first, count) in VALIDATION.items():
        ids = [int(item.id) for item in items if item.category == category]
        assert ids == list(range(first, first + count))
    assert len(items) == 2670 and len({item.prompt for item in items}) == 2395
    counts = collections.Counter(entry["Category"] for entry in train)
    assert (counts.pop("complex_action"), counts.pop("complex_spatial")) == (504, 130)
    assert counts == dict.fromkeys(COLUMNS, 700) and len({entry["Question"] for entry in train}) == 5559
    assert not {int(item.id) for item in items} & {entry["Question_id"] for entry in train}
    prompts = {category: [item.prompt for item in items if item.category == category] for category in VALIDATION}
    complex_prompts = set(prompts["complex"])
    assert set(prompts["complex_action"]) <= complex_prompts and set(prompts["complex_spatial"]) <= complex_prompts
    both = {entry["Question"] for entry in train} & {item.prompt for item in items}
    assert len(both) == 2
    color = {item.id: item.prompt for item in items if item.category == "color"}
    assert all(list(color.values()).count(color[name]) > 1 for name in ("1928", "1929", "1972", "1988", "2000"))
