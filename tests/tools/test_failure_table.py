"""Rows of the failure table (spec: reward stage, section 19): chunks, images, proposals.

The rows about prompts are in tests/generation/test_failure_table.py; those about judging, storage, interruptions and
several processes in test_failure_table_judge.py and test_failure_table_storage.py. Each test begins with the text of
its row.
"""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from srum_jax.inference.requests import GeneratedImage
from srum_jax.inference.settings import TextSampler
from srum_jax.regions.components import Components
from srum_jax.rewards.proposals import RawProposal
from srum_jax.stages.folder import DamagedError
from tests.generation.fakes import SETTINGS as FAKE_SETTINGS
from tests.generation.fakes import FakePipeline, contents, made_up_prompts, run
from tests.tools.fakes import (
    PROMPTS,
    SETTINGS,
    Painter,
    all_stages,
    export,
    exported,
    generated,
    image_path,
    judge,
    lines,
    picture,
    put_image,
    rejects,
    scores_for,
    segment,
    set_aside,
    summary,
)
from tests.tools.official_files import training_form


def regenerate(out, **options):
    """`generate` once more, with the fake model."""
    return run(out, PROMPTS, SETTINGS, Painter(), **options)


@pytest.mark.parametrize("damage", [b"", b"{}\n", b'{"record_id": "set-0-c00"', b"\xff\n"])
@pytest.mark.parametrize("stage", ["segment", "judge"])
def test_own_chunk_unparsable_is_an_error_naming_it_and_repair_sets_it_aside_and_redoes_it(
    whole, tmp_path, capsys, stage, damage
):
    """own chunk unparsable | error naming the chunk; `--repair` sets it aside and redoes it"""
    before = contents(whole)
    chunk = sorted((whole / stage / "chunks").rglob("*.jsonl"))[0]
    chunk.write_bytes(damage)
    again = {"segment": segment, "judge": lambda *a: judge(a[0], tmp_path, *a[1:])}[stage]
    assert again(whole) == 1
    assert f"{stage}/chunks" in capsys.readouterr().err and chunk.read_bytes() == damage
    assert again(whole, "--repair") == 0
    names = set_aside(whole)
    name = str(chunk.relative_to(whole / stage))
    assert (whole / "old" / stage / f"{name}.1").read_bytes() == damage
    assert f"judge/{name}.1" in names, "what a later stage made of it is set aside too"
    assert any(name.startswith("export.1/") for name in names)
    assert not (whole / "export").exists()
    assert judge(whole, tmp_path) == 0 and export(whole, "--verify") == 0
    assert contents(whole) == before


def test_own_chunk_unparsable_in_generate_is_an_error_naming_it_and_repair_redoes_it_and_later_stages(
    whole, tmp_path
):
    """own chunk unparsable | error naming the chunk; `--repair` sets it aside and redoes it"""
    before = contents(whole)
    chunk = sorted((whole / "generate" / "chunks").rglob("*.jsonl"))[0]
    chunk.write_bytes(b'{"record_id": ')
    with pytest.raises(DamagedError, match=chunk.name):
        regenerate(whole)
    regenerate(whole, repair=True)
    assert {name.partition("/")[0] for name in set_aside(whole)} >= {"generate", "segment", "judge", "export.1"}
    assert segment(whole) == 0 and judge(whole, tmp_path) == 0 and export(whole, "--verify") == 0
    assert contents(whole) == before


def test_imported_official_jsonl_with_a_bad_line_is_counted_and_the_line_kept(folder):
    """imported official JSONL: bad line | counted, line kept in `rejects`"""
    (folder.path / "in.jsonl").write_text("{oops\n" + "".join(json.dumps(training_form(f"{name}.png")) + "\n"
                                                               for name in "ab"))
    from tools.make_rewards.__main__ import main

    assert main(["import-jsonl", "--jsonl", str(folder.path / "in.jsonl"), "--images", str(folder.images),
                 "--out", str(folder.path / "out"), "--max-reject-rate", "0.5"]) == 0
    (line,) = folder.rejects
    assert (line["line"], line["text"], line["reason"]) == (1, "{oops", "schema_error")


def test_image_missing_though_recorded_is_counted_by_later_stages_and_redone_by_generate(
    whole, tmp_path
):
    """image missing though recorded | `generate` redoes it on resume; later stages: counted `missing_image`"""
    before = contents(whole)
    out = generated(tmp_path / "run")
    image_path(out, 1).unlink()
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0  # one of five
    assert rejects(out) == {"set-1-c00": "missing_image"}
    assert summary(out, "segment")["rejected"] == {"missing_image": 1}
    regenerate(out)
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0
    assert contents(out) == before, "what had been made without the image was made again"


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-30], lambda data: b"no image"])
def test_image_unreadable_truncated_or_of_zero_bytes_is_counted_and_repair_regenerates_it(
    whole, tmp_path, damage
):
    """image unreadable / truncated / zero bytes | counted `unreadable_image`; `generate --repair` regenerates"""
    before = contents(whole)
    out = generated(tmp_path / "run")
    path = image_path(out, 2)
    path.write_bytes(damage(path.read_bytes()))
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0
    assert rejects(out) == {"set-2-c00": "unreadable_image"}
    regenerate(out, repair=True)
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0
    assert contents(out) == before


def test_image_checksum_differs_from_the_record_is_an_error_naming_the_file_and_repair_regenerates_it(
    whole, tmp_path, capsys
):
    """image checksum differs from the record | error naming the file (someone changed it); `--repair` regenerates"""
    before = contents(whole)
    out = generated(tmp_path / "run")
    picture(size=(48, 40)).save(image_path(out, 3))
    changed = image_path(out, 3).read_bytes()
    assert segment(out) == 1 and "set-3-c00.png: expected the file with SHA-256" in capsys.readouterr().err
    with pytest.raises(DamagedError, match=r"set-3-c00\.png"):
        regenerate(out)
    regenerate(out, repair=True)
    assert (out / "old" / "generate" / "images" / "00001" / "set-3-c00.png.1").read_bytes() == changed
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0 and contents(out) == before


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_grey_or_alpha_image_is_converted_to_rgb_and_counted(tmp_path, mode):
    """grey or alpha image | converted to RGB (alpha over white), counted"""
    out = generated(tmp_path / "run", PROMPTS[:2])
    image = picture(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.uint8(np.arange(48)[None, :] >= 3) * np.full((40, 1), 255, np.uint8)))
    put_image(out, 0, image)
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0
    assert summary(out, "segment")["converted_to_rgb"] == {mode: 1}
    assert summary(out, "export")["warnings"] == {f"image_mode_{mode}_converted": 1}
    assert [6, 4, 20, 14] in [region["box"] for region in lines(out, "segment")["set-0-c00"]["regions"]]


@pytest.mark.parametrize("image", [picture(size=(48, 31)), Image.fromarray(np.zeros((40, 48), np.uint16))])
def test_image_smaller_than_32_px_or_not_rgb_able_is_counted_as_bad_image_size(tmp_path, image):
    """image smaller than 32 px or not RGB-able | counted `bad_image_size`"""
    out = generated(tmp_path / "run")
    put_image(out, 0, image)
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 0
    assert rejects(out) == {"set-0-c00": "bad_image_size"}


def test_sam_checkpoint_missing_is_an_error_before_any_work_that_says_what_is_expected(tmp_path, capsys):
    """SAM checkpoint missing | error before any work, with the expected file and how to point to it"""
    from tools.make_rewards.__main__ import main

    out = generated(tmp_path / "run", PROMPTS[:1])
    before = contents(out)
    for arguments in ([], ["--sam-model", str(tmp_path / "absent")]):
        assert main(["segment", "--out", str(out), *arguments]) == 2
        err = capsys.readouterr().err
        assert "--sam-model" in err and "config.json" in err
    assert contents(out) == before


class Blank(Painter):
    def draw(self, number):
        return np.full((40, 48, 3), 235, np.uint8)


@pytest.mark.parametrize(("preset", "count"), [("paper", 0), ("official", 2)])
def test_zero_proposals_are_no_error_the_layout_is_still_judged_and_no_region_decides(
    tmp_path, monkeypatch, preset, count
):
    """zero proposals | not an error: local skipped, global still judged, `num_found=0`; export by `no_region` rule"""
    from tests.tools.fakes import ScriptedJudge, judge_with

    out = generated(tmp_path / "run", PROMPTS[:2])
    monkeypatch.setattr(Components, "propose", lambda self, pixels: [])
    assert segment(out) == 0 and summary(out, "segment")["images_without_regions"] == 2
    judge = ScriptedJudge()
    assert judge_with(monkeypatch, tmp_path, judge, out, "--preset", preset) == 0
    assert {call.kind for call in judge.calls} == {"global"}
    assert {(line["local_status"], line["global_status"]) for line in lines(out, "judge").values()} == {
        ("skipped", "ok")}
    assert export(out, "--preset", preset, "--max-reject-rate", "1", "--verify") == 0
    assert summary(out, "export")["exported"] == count
    assert set(rejects(out).values()) == ({"no_region"} if count == 0 else set())
    assert all(record.num_found == 0 and record.global_score is not None for record in exported(out).values())


def test_one_proposal_covering_all_is_kept(tmp_path, monkeypatch):
    """one proposal covering all | kept"""
    out = generated(tmp_path / "run", PROMPTS[:1])
    monkeypatch.setattr(Components, "propose", lambda self, pixels: [RawProposal((0, 0, 48, 40), 1920, 0.9)])
    assert segment(out) == 0
    assert lines(out, "segment")["set-0-c00"]["regions"][0]["box"] == [0, 0, 48, 40]


def test_box_outside_inverted_or_not_integer_is_clipped_or_dropped_and_counted_and_never_reaches_a_record(
    tmp_path, monkeypatch
):
    """box outside / inverted / non-integer | clipped or dropped, counted; never reaches a record"""
    raw = [RawProposal(corners) for corners in (
        (-5, -5, 9, 9), (30, 4, 10, 9), (0.5, 0, 9, 9), (60, 60, 70, 70), (float("nan"), 0, 1, 1), (1, 2, 3))]
    out = generated(tmp_path / "run", PROMPTS[:1])
    monkeypatch.setattr(Components, "propose", lambda self, pixels: raw)
    scores = scores_for(tmp_path / "s.jsonl", PROMPTS[:1], regions=[
        {"box": [-5, -5, 9, 9], "score": 0.5}, {"box": [60, 60, 70, 70], "score": 0.5},
        {"box": [30, 4, 10, 9], "score": 0.5}])
    assert all_stages(out, scores) == 0
    assert summary(out, "segment")["regions_dropped"] == {"empty": 2, "not_integer": 3}
    assert len(lines(out, "judge")["set-0-c00"]["dropped"]) == 2
    (record,) = exported(out).values()
    assert [tuple(region.box) for region in record.regions] == [(0, 0, 9, 9)]


def test_think_text_empty_is_allowed_and_counted(tmp_path):
    """think text empty | allowed, counted"""
    class Thoughtless(FakePipeline):
        def _image(self, request, plan):
            return GeneratedImage(super()._image(request, None).pixels, " \n")

    settings = dataclasses.replace(FAKE_SETTINGS, plan=TextSampler(9))
    _, found = run(tmp_path, made_up_prompts(3), settings, Thoughtless())
    assert found["images"] == 3 and found["think"]["plans_empty"] == 3
