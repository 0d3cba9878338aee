"""Keywords of the user's own, and prompts that are asked for twice."""

import json

import pytest

from srum_jax.generation.prompts import read_jsonl
from tests.generation.fakes import records


def summary(out):
    return json.loads((out / "summary-generate.json").read_text())


def test_keywords_of_a_file_replace_those_that_the_rules_find(command, prompts, tmp_path):
    (tmp_path / "words.jsonl").write_text('{"id": 1, "keywords": ["Sofas", "couch", "sofa"]}\n\n')
    assert command("--prompts", str(prompts), "--keywords", str(tmp_path / "words.jsonl"))[0] == 0
    found = {prompt.source_id: prompt.keywords for prompt in read_jsonl(tmp_path / "out" / "prompts.jsonl")}
    assert found == {"0": ("circle",), "1": ("sofa", "couch"), "2": ("circle",)}
    code, _, err = command("--prompts", str(prompts))
    assert code == 2 and "prompts.sha256" in err, "other keywords are other prompts"


@pytest.mark.parametrize(("text", "message"), [
    ("{", "words.jsonl:1: not valid JSON"),
    ("[]", "words.jsonl:1: field 'id': expected the id of a prompt, found None"),
    ('{"id": "9", "keywords": ["a"]}', "words.jsonl:1: field 'id': expected an id of the prompt file, found '9'"),
    ('{"id": 1, "keywords": ["a"]}\n{"id": "1", "keywords": ["a"]}', "words.jsonl:2: field 'id': '1' is also in line 1"
     ),
    ('{"id": 1, "keywords": []}', "field 'keywords': expected a list of words, found []"),
    ('{"id": 1, "keywords": ["a", 2]}', "field 'keywords': expected a list of words"),
    ('{"id": 1, "keywords": ["traffic light"]}', "expected single words, found 'traffic light'"),
    ('{"id": 1, "keywords": ["..."]}', "expected single words, found '...'"),
])
def test_keywords_that_cannot_be_used_are_errors_with_their_line(
    command, prompts, tmp_path, text, message
):
    (tmp_path / "words.jsonl").write_text(text)
    code, _, err = command("--prompts", str(prompts), "--keywords", str(tmp_path / "words.jsonl"))
    assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_keywords_may_name_rows_that_a_limit_leaves_out(command, prompts, tmp_path):
    (tmp_path / "words.jsonl").write_text('{"id": 2, "keywords": ["plate"]}\n')
    assert command("--prompts", str(prompts), "--keywords", str(tmp_path / "words.jsonl"), "--limit", "1")[0] == 0


def test_a_file_of_keywords_that_is_absent_is_named(command, prompts):
    code, _, err = command("--prompts", str(prompts), "--keywords", "absent.jsonl")
    assert code == 2 and "absent.jsonl: no such file" in err


def test_of_repeated_prompts_the_first_is_kept_and_the_others_are_listed_and_counted_only_if_asked(
    command, tmp_path
):
    rows = [{"prompt": text} for text in ("a red circle", "a ring", "a red circle", "a red circle")]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command("--prompts", str(tmp_path / "list.jsonl"), out=tmp_path / "all")[0] == 0
    assert len(records(tmp_path / "all")) == 4
    code, out, _ = command("--prompts", str(tmp_path / "list.jsonl"), "--dedupe")
    assert code == 0, "they could have been used: nothing is wrong"
    assert sorted(records(tmp_path / "out")) == ["list-0-c00", "list-1-c00"] and "left out, duplicate prompt" in out
    assert summary(tmp_path / "out")["rejected"] == {"duplicate_prompt": 2}
    lines = [json.loads(line) for path in (tmp_path / "out" / "rejects").iterdir() for line in path.open()]
    assert sorted((line["index"], line["line"], line["detail"]) for line in lines) == [
        (2, 3, "the same prompt as in line 1 (--dedupe)"), (3, 4, "the same prompt as in line 1 (--dedupe)")]


def test_the_same_text_for_another_size_is_another_prompt(command, tmp_path):
    rows = [{"prompt": "a ring", "height": 16, "width": side} for side in (16, 32, 32)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command("--prompts", str(tmp_path / "list.jsonl"), "--dedupe")[0] == 0
    assert len(records(tmp_path / "out")) == 2
