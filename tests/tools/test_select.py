"""Records of records: the best candidate of each prompt, and scores relative to the other candidates."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath

from srum_jax.data.example_proto import decode_record
from srum_jax.data.records_source import RecordsSource, read_manifest
from srum_jax.data.writer import write_records
from srum_jax.rewards.groups import relative_scores
from srum_jax.worlds.shapes.records import write_records as write_world
from tools.make_rewards.__main__ import main

SCORES = ((0.5, 1.0, 1.0), (-1.0, 0.0, -0.5))  # of two prompts


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged") / "export"
    write_world(folder.parent / "one", 1, 3)
    made = decode_record(RecordsSource(folder.parent / "one").read(0))
    write_records(folder, (
        dataclasses.replace(made, record_id=f"r-{index}-{candidate}", index=index, candidate=candidate,
                            global_score=score, global_score_raw=score)
        for index, scores in enumerate(SCORES) for candidate, score in enumerate(scores)
    ), num_shards=2)
    return folder


def selected(records, out, *options):
    assert main(["select", "--records", str(records), "--out", str(out), *options]) == 0
    source = RecordsSource(out)
    found = [decode_record(source.read(place)) for place in range(len(source))]
    return {record.record_id: record for record in found}


def test_the_best_of_each_prompt_stays_and_the_first_of_equals(records, tmp_path):
    kept = selected(records, tmp_path / "best", "--best")
    assert set(kept) == {"r-0-1", "r-1-1"} and kept["r-1-1"].global_score == 0.0
    counts = read_manifest(epath.Path(tmp_path / "best")).counts
    assert counts["candidates"] == 6 and counts["rejected"] == {"not_selected": 4} and counts["prompts"] == 2


def test_those_below_the_least_score_go_even_where_they_are_the_best(records, tmp_path):
    assert set(selected(records, tmp_path / "a", "--least", "0.5")) == {"r-0-0", "r-0-1", "r-0-2"}
    assert set(selected(records, tmp_path / "b", "--least", "0.5", "--best")) == {"r-0-1"}


def test_relative_scores_are_advantages_halved_and_the_judges_stay_beside_them(records, tmp_path):
    kept = selected(records, tmp_path / "relative", "--relative")
    for index, scores in enumerate(SCORES):
        expected = np.clip((np.array(scores) - np.mean(scores)) / (np.std(scores, ddof=1) + 1e-4) / 2, -1, 1)
        found = [kept[f"r-{index}-{number}"] for number in range(3)]
        np.testing.assert_allclose([one.global_score for one in found], expected, atol=1e-6)
        assert tuple(one.global_score_raw for one in found) == scores
    assert relative_scores([0.5, 0.5]) == [0.0, 0.0]


def test_given_scores_take_the_place_of_those_of_the_records(records, tmp_path):
    given = tmp_path / "scores.jsonl"
    given.write_text("".join(json.dumps({"record_id": f"r-{index}-{number}", "score": (2 - number) / 4}) + "\n"
                             for index in range(2) for number in range(3)))
    kept = selected(records, tmp_path / "given", "--scores", str(given), "--best")
    assert {name: one.global_score for name, one in kept.items()} == {"r-0-0": 0.5, "r-1-0": 0.5}


def test_the_same_command_leaves_what_it_made_and_another_is_refused(records, tmp_path, capsys):
    selected(records, tmp_path / "out", "--best")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    selected(records, tmp_path / "out", "--best")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert main(["select", "--records", str(records), "--out", str(tmp_path / "out")]) == 2
    assert "best: the folder true, this command false" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "message"), [
    ('{"record_id": "r-0-0", "score": 2}', "field 'score': expected a number in [-1, 1], found 2"),
    ('{"score": 1}', "field 'record_id': expected the id of a record, found None"),
    ('{"record_id": "r-0-0", "score": 1}', "r-1-0: expected a global score, found none"),
])
def test_scores_that_cannot_be_used_are_named(records, tmp_path, capsys, line, message):
    (tmp_path / "scores.jsonl").write_text(line + "\n")
    assert main(["select", "--records", str(records), "--out", str(tmp_path / "o"), "--scores",
                 str(tmp_path / "scores.jsonl")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_records_that_are_absent_or_unfinished_are_bad_input_and_leave_no_trace(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        assert main(["select", "--records", str(tmp_path / name), "--out", str(tmp_path / "out"), "--best"]) == 2
        assert f"--records: {tmp_path / name}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
