"""Lines of a stage that are JSON but not what was written: an error that names file and field, from every command."""

import json

import pytest

from srum_jax.errors import BadInput
from tests.generation.fakes import contents
from tests.tools.fakes import generated, scores_for
from tools.make_rewards.__main__ import main
from tools.make_rewards.line_fields import check_line


def edit(out, stage, change):
    """Changes the first line of a stage; returns its file."""
    path = sorted((out / stage / "chunks").rglob("*.jsonl"))[0]
    first, *others = path.read_text().splitlines()
    entry = json.loads(first)
    change(entry)
    path.write_text("\n".join([json.dumps(entry), *others]) + "\n")
    return path


def remove_export(out):
    for path in sorted((out / "export").iterdir()):
        path.unlink()
    (out / "export").rmdir()


def without(*names):
    def change(entry):
        for name in names[:-1]:
            entry = entry[name]
        del entry[names[-1]]

    return change


def holding(value, *names):
    def change(entry):
        for name in names[:-1]:
            entry = entry[name]
        entry[names[-1]] = value

    return change


CHANGES = [
    ("generate", without("index"), "field 'index'"),
    ("generate", without("image"), "field 'image'"),
    ("generate", holding("zz", "image_sha256"), "field 'image_sha256'"),
    ("generate", holding(3, "index"), "index 3 and candidate 0"),
    ("segment", without("regions"), "field 'regions'"),
    ("segment", without("regions", 0, "area"), "field 'regions[0].area'"),
    ("judge", without("regions"), "field 'regions'"),
    ("judge", without("regions", 0, "score_raw"), "field 'regions[0].score_raw'"),
    ("judge", holding([1, 2], "regions", 0, "box"), "field 'regions[0].box'"),
    ("judge", holding("fine", "regions", 0, "verdict"), "field 'regions[0].verdict'"),
    ("judge", holding(None, "global", "flags"), "field 'global.flags'"),
    ("judge", holding([None, 1, 1], "attempts"), "field 'attempts'"),
    ("judge", holding([None], "calls"), "field 'calls[0]'"),
    ("judge", holding({"why": "no"}, "rejected"), "field 'rejected.reason'"),
]


@pytest.mark.parametrize(("stage", "change", "field"), CHANGES)
def test_a_line_with_another_content_is_an_error_of_export_and_report_that_names_the_field(
    whole, tmp_path, capsys, stage, change, field
):
    edit(whole, stage, change)
    assert main(["report", str(whole), "--out", str(tmp_path / "report")]) == 1
    assert field in capsys.readouterr().err
    remove_export(whole)
    assert main(["export", "--out", str(whole)]) == 1
    error = capsys.readouterr().err
    assert field in error and "changed after it was written" in error and "--repair" in error
    assert not (whole / "export" / "manifest.json").exists()


def test_repair_makes_a_judgement_again_that_lacks_a_field(whole, tmp_path):
    before = contents(whole)
    path = edit(whole, "judge", without("regions"))
    scores = scores_for(tmp_path / "scores.jsonl")
    assert main(["judge", "--out", str(whole), "--judge", scores]) == 1
    assert main(["judge", "--out", str(whole), "--judge", scores, "--repair"]) == 0
    assert path.read_bytes() == before[str(path.relative_to(whole))]


def test_repair_of_a_judgement_leaves_it_alone_where_an_image_record_is_what_was_damaged(
    whole, tmp_path, capsys
):
    edit(whole, "generate", without("image"))
    scores = scores_for(tmp_path / "scores.jsonl")
    assert main(["judge", "--out", str(whole), "--judge", scores, "--repair"]) == 1
    assert "`generate --repair`" in capsys.readouterr().err and not (whole / "old").exists()


def test_lost_regions_are_an_error_not_an_image_judged_as_a_whole(whole, capsys):
    remove_export(whole)
    sorted((whole / "segment" / "chunks").rglob("*.jsonl"))[0].unlink()
    assert main(["export", "--out", str(whole)]) == 2
    assert "run `segment` first" in capsys.readouterr().err


def test_changed_prompts_are_an_error_of_export(whole, capsys):
    remove_export(whole)
    prompts = whole / "prompts.jsonl"
    prompts.write_text(prompts.read_text().replace("a blue ring", "a red ring"))
    assert main(["export", "--out", str(whole)]) == 1
    assert "prompts.jsonl: checksum" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "text"), [("segment", "{"), ("segment", "{}"), ("judge", "[]"), ("judge", "{}")])
def test_changed_settings_of_a_stage_are_an_error_of_export(whole, capsys, stage, text):
    remove_export(whole)
    (whole / f"run-{stage}.json").write_text(text)
    assert main(["export", "--out", str(whole)]) == 1
    assert f"run-{stage}.json: expected the settings of `{stage}`" in capsys.readouterr().err


def test_a_number_of_shards_that_is_none_is_an_error(whole, capsys):
    run = json.loads((whole / "run.json").read_text()) | {"num_shards": "two"}
    (whole / "run.json").write_text(json.dumps(run))
    assert main(["export", "--out", str(whole)]) == 1
    assert "run.json: expected the settings of `generate`" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--name", "other"), ("--num-record-shards", "3")])
def test_finished_records_are_not_taken_for_others(whole, capsys, option, value):
    assert main(["export", "--out", str(whole), option, value]) == 2
    assert f"{option}: expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["object", "reason"])
def test_given_scores_with_half_a_surrogate_pair_are_bad_input(tmp_path, capsys, name):
    out = generated(tmp_path / "run")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    scores = scores_for(tmp_path / "s.jsonl", regions=[{"box": [6, 4, 20, 14], "score": 0.5, name: "\ud800"}])
    assert main(["judge", "--out", str(out), "--judge", scores]) == 2
    assert f"regions[0].{name}': expected valid Unicode" in capsys.readouterr().err


def test_synonyms_with_half_a_surrogate_pair_are_bad_input(tmp_path, capsys):
    out = generated(tmp_path / "run")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    (tmp_path / "words.json").write_text('[["a", "\\ud800"]]')
    assert main(["judge", "--out", str(out), "--judge", scores_for(tmp_path / "s.jsonl"), "--synonyms",
                 str(tmp_path / "words.json")]) == 2
    assert "expected valid Unicode" in capsys.readouterr().err


def test_scores_that_could_not_be_read_may_be_corrected(tmp_path, capsys):
    out = generated(tmp_path / "run")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    path = tmp_path / "s.jsonl"
    assert main(["judge", "--out", str(out), "--judge", scores_for(path, **{"global": {"score": 7}})]) == 2
    assert main(["judge", "--out", str(out), "--judge", scores_for(path)]) == 0
    assert main(["judge", "--out", str(out), "--judge", scores_for(path, **{"global": {"score": 0}})]) == 2
    assert "begun with something else" in capsys.readouterr().err


def test_a_folder_is_no_file_of_scores(tmp_path, capsys):
    out = generated(tmp_path / "run")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    assert main(["judge", "--out", str(out), "--judge", f"jsonl:{tmp_path}"]) == 2
    assert "jsonl:FILE with an existing file" in capsys.readouterr().err


def test_the_authors_format_goes_into_a_folder_that_exists(whole, capsys):
    assert main(["export", "--out", str(whole), "--official-jsonl", str(whole / "nowhere" / "o.jsonl")]) == 2
    assert "expected a file in a folder that exists" in capsys.readouterr().err


def test_a_prompt_whose_id_was_changed_to_no_file_name_is_an_error_of_verify(whole, capsys):
    path = whole / "prompts.jsonl"
    first, _, rest = path.read_text().partition("\n")
    path.write_text(json.dumps(json.loads(first) | {"source_id": "a/b"}) + "\n" + rest)
    assert main(["verify", str(whole)]) == 1
    assert "prompts.jsonl: checksum: expected" in capsys.readouterr().err


def test_a_line_that_is_no_object_is_an_error():
    with pytest.raises(BadInput, match="expected an object, found list"):
        check_line("judge", [])
