"""WISE: a made-up file of its form, the marks of a reply, both releases, and numbers made by hand."""

import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.evaluation.wise import CATEGORIES, category_of, read_marks, wi_score
from tests.evaluation.replayed import Evaluation, reply

IDS = (1, 400, 401, 567, 568, 700, 701, 801, 901, 1000)
ENTRIES = [{"Prompt": f"a feast {number}", "Explanation": f"shows {number}", "Category": "x",
            "Subcategory": f"s{number}", "prompt_id": number} for number in IDS]
# Consistency, realism and aesthetic quality of each.
MARKS = ((2, 2, 2), (2, 1, 0), (0, 0, 0), (2, 2, 2), (1, 1, 1), (2, 1, 0), (2, 2, 2), (0, 2, 2), (2, 0, 0), (0, 0, 2))


def replies(**changes):
    return [reply(str(number), changes.get(f"_{number}", f"**Consistency**: {c}\nRealism: {r}\nAesthetic Quality: {a}"),
                  call="rate") for number, (c, r, a) in zip(IDS, MARKS, strict=True)]


@pytest.fixture
def evaluation(tmp_path):
    return Evaluation(tmp_path, "wise", wise__json=ENTRIES)


@pytest.mark.parametrize(("marks", "score"), [((2, 1, 0), 0.8), ((2, 2, 2), 1.0), ((0, 0, 0), 0.0), ((0, 0, 2), 0.1)])
def test_a_wi_score_weighs_the_three_marks(marks, score):
    assert wi_score(*marks) == pytest.approx(score)


@pytest.mark.parametrize(("text", "marks"), [
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
    ("**Consistency**: 2\n**Realism:** 1\n- _Aesthetic quality_ 0", (2, 1, 0)),
    ("Consistency\uff1a2 Realism\uff1a1 Aesthetic Quality\uff1a0", (2, 1, 0)),
    ("consistency 2, realism 1, aesthetic_quality 0", (2, 1, 0)),
    ("Consistency: the cup is there. Consistency: 1\nRealism: 1\nAesthetic Quality: 2", (1, 1, 2)),
    ("Consistency: 2\nRealism: 1", None), ("Consistency: 3\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 10\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 0", None), ("", None),
])
def test_marks_are_found_with_any_markup_or_the_reply_is_a_failure(text, marks):
    found = read_marks(text)
    assert found == (None if marks is None else dict(zip(("consistency", "realism", "aesthetic_quality"), marks,
                                                         strict=True)))


@pytest.mark.parametrize(("release", "first_ids"), [
    ("wise-2025", (1, 401, 568, 701, 801, 901)), ("wise-verified-2026", (1, 401, 521, 641, 761, 881))])
def test_ids_say_the_category_in_both_releases(release, first_ids):
    assert [category_of(number, release) for number in first_ids] == list(CATEGORIES)
    assert [category_of(number - 1, release) for number in first_ids[1:]] == list(CATEGORIES[:-1])
    assert category_of(1000, release) == "chemistry"
    for number in (0, 1001):
        with pytest.raises(BadInput, match=f"found {number}"):
            category_of(number, release)
    counts = open_benchmark("wise", release, "").official_counts
    assert sum(counts.values()) == 1000 and counts["culture"] == 400


def test_recorded_replies_give_the_numbers_made_by_hand(evaluation):
    assert evaluation.run(replies()) == 0
    means = evaluation.means
    expected = {"culture": 0.9, "time": 0.5, "space": 0.65, "biology": 1.0, "physics": 0.3, "chemistry": 0.4}
    assert {name: means[name] for name in expected} == pytest.approx(expected)
    assert means["overall"] == pytest.approx(0.4 * 0.9 + 0.167 * 0.5 + 0.133 * 0.65 + 0.1 * (1.0 + 0.3 + 0.4))
    assert means["overall_plain6"] == pytest.approx(sum(expected.values()) / 6)
    assert means["spatio_temporal"] == pytest.approx((0 + 1 + 0.5 + 0.8) / 4)
    assert means["natural_science"] == pytest.approx((1.0 + 0.3 + 0.7 + 0.1) / 4)
    tables = evaluation.out / "tables"
    full = [json.loads(line) for line in (tables / "full_results.jsonl").read_text().splitlines()]
    marks = [json.loads(line) for line in (tables / "scores_results.jsonl").read_text().splitlines()]
    assert full[1] == {"prompt_id": 400, "prompt": "a feast 400", "key": "shows 400", "image_path": "400.png",
                       "evaluation": "**Consistency**: 2\nRealism: 1\nAesthetic Quality: 0"}
    assert marks[1] == {"prompt_id": 400, "Subcategory": "s400", "consistency": 2, "realism": 1, "aesthetic_quality": 0}


def test_a_reply_without_a_mark_is_asked_again_and_then_leaves_no_overall_number(evaluation):
    again = [reply("567", "Realism: 1", call="rate", attempt=attempt) for attempt in (2, 3)]
    assert evaluation.run([*replies(_567="Realism: 1"), *again]) == 3
    found = evaluation.results
    assert found["scores"]["overall"] is None and found["scores"]["time"] is None and list(found["failed"]) == ["567"]
    assert found["scores"]["culture"]["mean"] == pytest.approx(0.9)


def test_a_second_reply_counts_where_the_first_could_not_be_read(evaluation):
    good = "Consistency: 2\nRealism: 2\nAesthetic Quality: 2"
    assert evaluation.run([*replies(_567="?"), reply("567", good, call="rate", attempt=2)]) == 0
    assert evaluation.means["time"] == pytest.approx(0.5)


def test_the_verified_release_has_binary_scores_and_weights_of_its_own(evaluation):
    lines = [reply(str(number), f"Score: {number % 2}", call="rate") for number in IDS]
    assert evaluation.run(lines, "--protocol", "wise-verified-2026") == 0
    means = evaluation.means
    expected = {"culture": 0.5, "time": 1.0, "space": 0.5, "biology": 0.5, "physics": 1.0, "chemistry": 0.5}
    assert {name: means[name] for name in expected} == expected
    assert means["overall"] == pytest.approx(0.4 * 0.5 + 0.12 * (1.0 + 0.5 + 0.5 + 1.0 + 0.5))


def test_one_folder_never_holds_two_releases(evaluation, capsys):
    assert evaluation.run(replies()) == 0
    assert evaluation.run(replies(), "--protocol", "wise-verified-2026") == 2
    assert 'protocol: the folder "wise-2025", this command "wise-verified-2026"' in capsys.readouterr().err


def test_plans_lie_beside_the_images():
    benchmark = open_benchmark("wise", template="")
    items = benchmark.items({"a.json": json.dumps(ENTRIES[:2]).encode()})
    records = {(item.id, 0): type("Record", (), {"think_text": plan})()
               for item, plan in zip(items, ("first a feast", None), strict=True)}
    assert benchmark.beside_images(items, records) == {"1.txt": b"first a feast"}
    assert benchmark.image(items[0], 0) == "1.png"


def test_a_repeated_id_and_a_missing_field_are_named(tmp_path):
    benchmark = open_benchmark("wise", template="")
    with pytest.raises(BadInput, match="entry 1: field 'prompt_id': 1 is also that of entry 0"):
        benchmark.items({"a.json": json.dumps([ENTRIES[0]] * 2).encode()})
    with pytest.raises(BadInput, match=r"b\.json: entry 0: field 'Explanation': expected str, found no such field"):
        benchmark.items({"b.json": json.dumps([{k: v for k, v in ENTRIES[0].items() if k != "Explanation"}]).encode()})
