"""Rows of the failure table (spec: reward stage, section 19): prompts. Each test begins with the text of its row."""

import json

import pytest


def test_prompt_file_with_bad_json_array_is_an_error_with_file_line_and_column_and_nothing_is_written(
    command, tmp_path
):
    """prompt file: bad JSON (array) | error: file, line, column; nothing written"""
    (tmp_path / "list.json").write_text('[{"prompt": "a"},\n {"prompt": }]')
    code, _, err = command("--prompts", str(tmp_path / "list.json"))
    assert code == 2 and "list.json:2: expected a JSON array, found an error at column 13" in err
    assert not (tmp_path / "out").exists()


def test_prompt_file_with_a_bad_line_is_an_error_or_counted_as_bad_prompt_with_the_line_number(
    command, tmp_path
):
    """prompt file: bad line (JSON lines) | error by default; `--skip_bad_lines` (here --on-error skip) -> counted"""
    (tmp_path / "list.jsonl").write_text('{"prompt": "a red circle"}\n{oops\n' + '{"prompt": "a ring"}\n' * 4)
    code, _, err = command("--prompts", str(tmp_path / "list.jsonl"))
    assert code == 2 and "list.jsonl:2: expected JSON" in err and not (tmp_path / "out").exists()
    assert command("--prompts", str(tmp_path / "list.jsonl"), "--on-error", "skip")[0] == 0  # one of six
    (path,) = (tmp_path / "out" / "rejects").iterdir()
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["line"], line["reason"]) == (2, "bad_prompt")
    assert command("--prompts", str(tmp_path / "list.jsonl"), "--on-error", "skip", "--max-reject-rate", "0.1")[0] == 3


@pytest.mark.parametrize(("row", "message"), [
    ({"prompt": " ", "id": "b"}, "field 'prompt': expected a prompt, found an empty text"),
    ({"prompt": 7, "id": "b"}, "field 'prompt': expected a text, found 7"),
    ({"prompt": "b"}, "field 'id': expected an id, found no such field"),
    ({"prompt": "b", "id": "a"}, "id 'a' is also that of line 1"),
])
def test_prompt_empty_not_a_string_id_missing_or_repeated_is_an_error_naming_the_entry_or_counted(
    command, tmp_path, row, message
):
    """prompt empty, not a string, id missing or repeated | error naming the entry (or counted with the flag)"""
    (tmp_path / "list.jsonl").write_text('{"prompt": "a red circle", "id": "a"}\n' + json.dumps(row))
    arguments = ["--prompts", str(tmp_path / "list.jsonl"), "--fields", "prompt=prompt,id=id"]
    code, _, err = command(*arguments)
    assert code == 2 and "list.jsonl:2: " in err and message in err
    assert command(*arguments, "--on-error", "skip")[0] == 3  # one of two
    rejected = json.loads((tmp_path / "out" / "summary-generate.json").read_text())["rejected"]
    assert rejected == {"duplicate_id" if "also that" in message else "bad_prompt": 1}
