"""`make_rewards parse` shows what is read of saved replies."""

import json

import pytest

from tools.make_rewards.__main__ import main

GOOD = {"kind": "local", "num_regions": 2, "id": "mine",
        "text": "<think>hm</think>REGION 1\nOBJECT: 猫\nSCORE: 0.5\nSEVERITY: 0\n"
                "REGION 2\nSCORE: 1 (very poor)\nSEVERITY: 0"}
LAYOUT = {"kind": "global", "text": '{"score": -0.5, "reason": "swapped"}'}


def saved(tmp_path, *entries):
    path = tmp_path / "replies.jsonl"
    path.write_text("".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in entries))
    return str(path)


def test_values_and_problems_of_every_reply_and_totals_are_shown(tmp_path, capsys):
    assert main(["parse", saved(tmp_path, GOOD, "", LAYOUT)]) == 0
    shown = capsys.readouterr().out
    assert 'mine (local): partial\n  region 1: score 0.5, severity 0.0, object "猫"\n' in shown
    assert "\n  problems: unclear_number 1\n" in shown
    assert 'line 3 (global): ok\n  image: score -0.5, reason "swapped"\n' in shown
    assert "replies: 2\nasked_again: 0\nscores: 2\n" in shown


def test_with_json_every_line_is_an_object(tmp_path, capsys):
    identified = {"kind": "identify", "num_regions": 1, "text": "REGION 1\nOBJECT: a cat\nKEYWORD: cat"}
    broken = {"kind": "local", "num_regions": 2, "text": "REGION 0\nSCORE: 1\nREGION 1\nSCORE: 1"}
    assert main(["parse", saved(tmp_path, identified, broken), "--json", "--max-reject-rate", "0.5"]) == 0
    first, second, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"id": "line 1", "kind": "identify", "status": "ok", "problems": {},
                     "values": {"1": {"object": "a cat", "keyword": "cat"}}}
    assert second["values"] == {} and second["problems"]["numbered_otherwise"] == 1
    assert "numbered from 1 to 2" in second["asked_again"]
    assert totals["totals"]["statuses"] == {"identify ok": 1, "local no_region": 1}


def test_too_many_replies_that_cannot_be_read_end_with_3(tmp_path, capsys):
    path = saved(tmp_path, LAYOUT, {"kind": "sample", "text": "SCORE: 7/10"})
    assert main(["parse", path]) == 3
    assert "1 of 2 replies would be asked for again" in capsys.readouterr().err


def test_the_authors_parser_can_be_tried_too(tmp_path, capsys):
    entry = {"kind": "local", "num_regions": 1, "text": "Region ID: 1\nIdentified Object: cat\nScore: 0.9/1.0"}
    assert main(["parse", saved(tmp_path, entry), "--preset", "official", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["values"] == {"1": {"score": 0.9, "object": "cat"}}


@pytest.mark.parametrize(("line", "message"), [
    ("{", ":1: not valid JSON"),
    ("[]", ":1: expected an object, found list"),
    ('{"text": "x"}', "field 'kind': expected one of identify, local, region, global, sample, found None"),
    ('{"kind": "global", "text": null}', "field 'text': expected a text, found None"),
    ('{"kind": "local", "text": "x"}', "field 'num_regions': expected how many"),
    ('{"kind": "local", "text": "x", "num_regions": 0}', "field 'num_regions'"),
    ('{"kind": "global", "text": "x", "id": 3}', "field 'id'"),
    ("", "found no line"),
])
def test_a_file_that_cannot_be_used_is_refused_by_line_and_field(tmp_path, capsys, line, message):
    assert main(["parse", saved(tmp_path, line)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_a_file_that_is_absent_or_a_folder_is_named(tmp_path, capsys):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        assert main(["parse", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
