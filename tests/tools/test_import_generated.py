"""Images of the authors' code become a folder that the later stages work on."""

import json
import os
import re

import pytest

from tests.data.made_up import image_bytes
from tests.generation.fakes import contents
from tests.tools.fakes import all_stages, exported, picture
from tools.make_rewards.__main__ import main


def line(number, **changes):
    return {"prompt_id": number, "image_file": f"{number}.png", "original_prompt": f"a red circle number {number}",
            "detailed_prompt": "a circle in oil", "think_output": "<think>hm</think> detailed prompt: a circle in oil"
            } | changes


@pytest.fixture
def authors(tmp_path):
    """A folder as the authors' code leaves it."""
    images = tmp_path / "authors"
    images.mkdir()
    for number in range(1, 6):
        picture().save(images / f"{number}.png")
    write(images, [line(number) for number in range(1, 6)])
    return images


def write(images, entries):
    (images / "output.jsonl").write_text("".join(
        (entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in entries))


def take(images, out, *arguments):
    return main(["import-generated", "--images", str(images), "--out", str(out), "--num-shards", "2", "--batch-size",
                 "2", *arguments])


def scores(path):
    path.write_text("".join(json.dumps({
        "record_id": f"authors-{number}-c00", "regions": [{"box": [6, 4, 20, 14], "score": 0.5, "object": "circle"}],
        "global": {"score": 0.25}}) + "\n" for number in range(1, 6)))
    return f"jsonl:{path}"


def test_later_stages_work_on_images_of_the_authors_and_records_say_where_they_come_from(authors, tmp_path):
    out = tmp_path / "out"
    assert take(authors, out) == 0
    assert all_stages(out, scores(tmp_path / "scores.jsonl")) == 0 and main(["verify", str(out)]) == 0
    records = exported(out)
    assert sorted(records) == [f"authors-{number}-c00" for number in range(1, 6)]
    record = records["authors-3-c00"]
    assert record.image_encoded == (authors / "3.png").read_bytes()
    assert record.think_text.startswith("<think>hm") and record.prompt == "a red circle number 3"
    found = record.provenance
    assert found["imported"] is True and found["seed"] is found["sampler"] is found["generator"] is None
    assert json.loads((out / "export" / "manifest.json").read_text())["provenance"]["imported"] is True
    assert main(["report", str(out), "--out", str(tmp_path / "report")]) == 0
    assert re.search(r'"generator":\s*"imported"', (tmp_path / "report" / "index.html").read_text())


def test_lines_that_cannot_be_used_are_counted_with_their_reason(authors, tmp_path):
    (authors / "6.png").write_bytes(b"none")
    (authors / "7.png").write_bytes(image_bytes(1, 40, 40, format="gif"))
    os.mkfifo(authors / "8.png")
    entries = [line(1), "{oops", line(2, original_prompt=" "), line(3, prompt_id=None), line(9), line(1), line(6),
               line(7), line(8), line(4, image_file="../x.png"), line(4, prompt_id="a b"), line(4, think_output=7),
               line(5, detailed_prompt="Failed to extract detailed prompt.", think_output=None)]
    write(authors, entries)
    out = tmp_path / "out"
    assert take(authors, out) == 3
    assert take(authors, out, "--max-reject-rate", "0.9") == 0
    summary = json.loads((out / "summary-generate.json").read_text())
    assert summary["rejected"] == {"bad_prompt": 4, "duplicate_id": 2, "missing_image": 3, "unreadable_image": 2}
    listed = [json.loads(text) for path in (out / "rejects").iterdir() for text in path.open()]
    assert sorted(entry["line"] for entry in listed) == list(range(2, 13))
    generated = {}
    for path in (out / "generate" / "chunks").rglob("*.jsonl"):
        generated |= {entry["record_id"]: entry for entry in map(json.loads, path.open())}
    assert sorted(generated) == ["authors-1-c00", "authors-5-c00"]
    assert (generated["authors-5-c00"]["detailed_prompt"], generated["authors-5-c00"]["think"]) == (None, False)


def test_an_import_goes_on_where_it_was_and_other_inputs_need_another_folder(authors, tmp_path, capsys):
    assert take(authors, tmp_path / "a") == 0 and take(authors, tmp_path / "b") == 0
    next((tmp_path / "b" / "generate" / "chunks").rglob("*.jsonl")).unlink()
    assert take(authors, tmp_path / "b") == 0 and contents(tmp_path / "a") == contents(tmp_path / "b")
    write(authors, [line(1)])
    assert take(authors, tmp_path / "b") == 2
    assert "prompts.count: the folder 5, this command 1" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--set-name", "a b"], "--set-name"), (["--batch-size", "0"], "batch_size: expected"),
    (["--jsonl", "absent"], "absent: expected the images of the authors' code"),
])
def test_arguments_that_cannot_be_used_are_errors(authors, tmp_path, capsys, arguments, message):
    assert take(authors, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
