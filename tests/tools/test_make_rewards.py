import hashlib
import json
import math
import os
import signal

import numpy as np
import pytest

from srum_jax.data.example_proto import encode_record
from srum_jax.data.manifest import shard_name
from srum_jax.data.schema import GlobalStatus
from srum_jax.data.tfrecord import frame
from tests import commands
from tests.data.made_up import image_bytes, made_up_record, write_made_up
from tests.tools.official_files import region, training_form
from tools.make_rewards.__main__ import main


def test_the_training_form_becomes_records_with_half_open_boxes(folder):
    entries = [training_form("a.png", regions=[region([1, 2, 30, 39], -0.5)]),
               training_form("b.png", -1.0, regions=[region([0, 0, 48, 40], 1)])]
    assert folder.run(entries) == 0
    first, second = folder.records
    assert first.regions[0].box == (1, 2, 31, 40) and first.regions[0].score == -0.5
    assert (first.record_id, first.prompt, first.global_score, first.provider) == ("a.png", "a cup", 0.5, "sam")
    assert first.global_reason == "fine" and first.provenance["imported"] is True
    assert second.regions[0].box == (0, 0, 48, 40) and second.provider == "sample"
    assert first.image_encoded == (folder.images / "a.png").read_bytes()
    assert main(["verify", str(folder.path / "out")]) == 0


def test_the_intermediate_form_is_read_too(folder):
    entry = {"image_file": "a.png", "prompt": "a cup", "vlm_raw_output": "...",
             "vlm_rewards": [{"identified_object": "cup", "score": 0.5, "reason": "r", "bbox": [1, 2, 3, 4], "area": 4,
                              "binarized_score": 1}],
             "global_layout_reward": {"global_layout_score": 0.75, "reason": "ok", "bbox": [0, 0, 9, 9], "area": 81}}
    without_global = entry | {"image_file": "b.png", "global_layout_reward": None}
    assert folder.run([entry, without_global], "--global-absent", "keep") == 0
    first, second = folder.records
    assert first.global_score == 0.75 and first.regions[0].object == "cup" and first.regions[0].area == 4
    assert second.global_status == GlobalStatus.ABSENT and second.global_score is None


@pytest.mark.parametrize("entry, reason", [
    ("{not json", "schema_error"), ("[1, 2]", "schema_error"), ('{"prompt": "x"}', "schema_error"),
    (training_form(prompt="  "), "bad_prompt"), (training_form("missing.png"), "missing_image"),
    (training_form("../in.jsonl"), "missing_image"), (training_form("/etc/hosts"), "missing_image"),
    (training_form("broken.png"), "unreadable_image"), (training_form("empty.png"), "unreadable_image"),
    (training_form("picture.bmp"), "unreadable_image"), (training_form("small.png"), "bad_image_size"),
    (training_form("b.png", good_image_file="c.png"), "schema_error"),
    (training_form("b.png", math.nan), "non_finite_score"), (training_form("b.png", 7.0), "global_unparsed"),
    (training_form("b.png", regions=[region([0, 0, 5, 5], math.inf)]), "non_finite_score"),
    (training_form("b.png", regions=[region([0, 0, 5, 5], None)]), "schema_error"),
    (training_form("b.png", vlm_rewards=None), "schema_error"),
    (training_form("b.png", vlm_rewards={"object": "cup"}), "schema_error"),
    (training_form("b.png", vlm_rewards=[None]), "schema_error"),
    (training_form("b.png", regions=[region([0, 0, 5, 5], "0.5")]), "schema_error"),
    (training_form("b.png", vlm_rewards=[]), "global_unparsed"),
    (training_form("b.png", vlm_rewards=3), "schema_error"),
    (training_form("a.png"), "duplicate_id"),
])
def test_what_cannot_be_used_is_rejected_with_its_reason_and_line(folder, entry, reason):
    good = (folder.images / "b.png").read_bytes()
    (folder.images / "broken.png").write_bytes(good[: len(good) // 2])
    (folder.images / "empty.png").write_bytes(b"")
    (folder.images / "picture.bmp").write_bytes(image_bytes(0, 48, 40, format="bmp"))
    (folder.images / "small.png").write_bytes(image_bytes(0, 31, 40))
    assert folder.run([training_form("a.png"), entry], "--max-reject-rate", "0.5") == 0
    (reject,) = folder.rejects
    assert (reject["reason"], reject["line"], reject["file"]) == (reason, 2, "in.jsonl")
    assert folder.summary["rejected"] == {reason: 1}
    assert len(folder.records) == 1
    assert main(["verify", str(folder.path / "out")]) == 0


@pytest.mark.parametrize("entry, option, reason", [
    (training_form("b.png", 0.0), "--global-zero", "global_zero"),
    (training_form("b.png"), "--no-region", "no_region")])
def test_the_authors_filters_can_be_switched_on(folder, entry, option, reason):
    entries = [training_form("a.png", regions=[region([0, 0, 5, 5])]), entry]
    assert folder.run(entries, option, "drop", "--max-reject-rate", "1") == 0
    assert [reject["reason"] for reject in folder.rejects] == [reason]


def test_boxes_are_repaired_or_dropped_and_counted(folder):
    boxes = [[-5, 3, 10, 100], [60, 0, 70, 5], [10, 5, 9, 6], [1, 2, 3], ["4", "5", "6", "7"], [2.9, 3.2, 10.9, 12.7],
             [5, 5, 5, 5]]
    regions = [region(box) for box in boxes] + [{"object": "cup", "bbox": [0, 0, 1, 1]}, region([0, 0, 9, 9], 85)]
    assert folder.run([training_form(regions=regions)]) == 0
    assert [tuple(r.box) for r in folder.records[0].regions] == [
        (0, 3, 11, 40), (4, 5, 7, 8), (2, 3, 11, 13), (5, 5, 6, 6), (0, 0, 2, 2)]
    assert folder.summary["warnings"] == {
        "region_box_clipped": 1, "region_box_outside": 1, "region_box_unusable": 2,
        "region_score_missing_read_as_0": 1, "region_score_out_of_range": 1}


def test_too_many_rejects_give_exit_code_3_but_the_rest_is_there(folder, capsys):
    assert folder.run([training_form("a.png"), "{"]) == 3
    assert "more than --max-reject-rate" in capsys.readouterr().err
    assert len(folder.records) == 1


@pytest.mark.parametrize("options", [["--num-shards", "0"], ["--name", "a/b"],
                                     ["--images", "/nowhere"], ["--jsonl", "/nowhere"]])
def test_bad_arguments_give_exit_code_2_and_write_nothing(folder, options, capsys):
    assert folder.run([training_form()], *options) == 2
    assert "error:" in capsys.readouterr().err
    assert not (folder.path / "out").exists()


def test_an_empty_file_is_a_bad_argument(folder):
    assert folder.run([""]) == 2


def test_a_second_run_into_the_same_folder_is_refused(folder):
    assert folder.run([training_form()]) == 0
    assert folder.run([training_form()]) == 2


def test_equal_inputs_give_equal_bytes(folder):
    entries = [training_form("a.png", regions=[region([1, 2, 3, 4])]), training_form("b.png")]
    assert folder.run(entries, "--num-shards", "2") == 0
    first = {p.name: p.read_bytes() for p in (folder.path / "out").iterdir() if p.is_file()}
    (folder.path / "out").rename(folder.path / "old")
    assert folder.run(entries, "--num-shards", "2") == 0
    assert first == {p.name: p.read_bytes() for p in (folder.path / "out").iterdir() if p.is_file()}


def damage_bit(folder):
    path = folder / shard_name("srum-rewards", 1, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def swap_shards(folder):
    one, two = (folder / shard_name("srum-rewards", shard, 3) for shard in (1, 2))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.parametrize("damage, message", [
    (damage_bit, "checksum"), (swap_shards, "checksum"),
    (lambda d: (d / shard_name("srum-rewards", 0, 3)).unlink(), "no such file"),
    (lambda d: (d / (shard_name("srum-rewards", 0, 3) + ".index")).write_bytes(bytes(8)), "index"),
    (lambda d: (d / "shards.jsonl").write_text("{}"), "shards.jsonl"),
    (lambda d: (d / "manifest.json").unlink(), "manifest.json"),
    (lambda d: (d / "manifest.json").write_text(
        (d / "manifest.json").read_text().replace('"exported": 11', '"exported": 12')),
     "counts.exported: expected 12, found 11"),
])
def test_verify_finds_damage(tmp_path, damage, message, capsys):
    write_made_up(tmp_path / "records")
    assert main(["verify", str(tmp_path / "records")]) == 0
    damage(tmp_path / "records")
    assert main(["verify", str(tmp_path / "records")]) == 1
    assert message in capsys.readouterr().err


def test_verify_of_nothing_is_a_bad_argument(tmp_path):
    assert main(["verify", str(tmp_path / "absent")]) == 2


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["import-jsonl", "--help"])
    assert caught.value.code == 0
    assert "examples:" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_import_leaves_nothing_that_loads(folder):
    entries = [training_form(f"{i}.png") for i in range(4000)]
    for entry in entries:
        (folder.images / entry["bad_image_file"]).write_bytes(image_bytes(1, 48, 40))
    (folder.path / "in.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    out = folder.path / "out"
    process = commands.start("tools.make_rewards", "import-jsonl", "--jsonl", folder.path / "in.jsonl",
                             "--images", folder.images, "--out", out)
    assert process.signal_when(lambda: any(out.glob(".*partial*")), signal.SIGTERM).code == 130
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("line", [
    json.dumps(training_form(prompt="a \ud800")),
    json.dumps(training_form(image="\ud800.png")),
    json.dumps(training_form(regions=[region([0, 0, 9, 9], reason="\udcff")])),
    '{"image_file": ' + "9" * 5000 + "}",
    json.dumps(training_form(prompt="caf\xe9"), ensure_ascii=False).encode("latin-1"),
])
def test_text_that_cannot_be_stored_is_rejected_and_the_rest_imported(folder, line):
    line = line if isinstance(line, bytes) else line.encode()
    (folder.path / "in.jsonl").write_bytes(line + b"\n" + json.dumps(training_form(image="b.png")).encode() + b"\n")
    assert main(["import-jsonl", "--jsonl", str(folder.path / "in.jsonl"), "--images", str(folder.images),
                 "--out", str(folder.path / "out"), "--max-reject-rate", "1"]) == 0
    assert [(reject["line"], reject["reason"]) for reject in folder.rejects] == [(1, "schema_error")]
    assert [record.record_id for record in folder.records] == ["b.png"]


def test_numbers_beyond_every_range_are_out_of_range(folder):
    regions = [region([0, 0, 9, 9], 10**400), region([0, 0, 9, 9], area=10**400), region([0, 0, 9, 9], area=2**63),
               region([0, 0, 9, 9], area=True), region([0, 0, 9, 9], area=7)]
    assert folder.run([training_form(regions=regions), training_form("b.png", score=10**400)],
                      "--max-reject-rate", "1") == 0
    assert [region.area for region in folder.records[0].regions] == [100] * 3 + [7]
    assert folder.summary["warnings"]["region_score_out_of_range"] == 1
    assert folder.summary["rejected"] == {"global_unparsed": 1}


def test_a_pipe_among_the_images_is_not_waited_for(folder):
    os.mkfifo(folder.images / "pipe.png")
    assert folder.run([training_form("pipe.png"), training_form()], "--max-reject-rate", "1") == 0
    assert folder.summary["rejected"] == {"missing_image": 1}


def rewrite_shard(folder, shard, records, index=None):
    """Replaces a shard by other records, with every size, count and checksum kept up."""
    path = folder / shard_name("srum-rewards", shard, 3)
    framed = [frame(encode_record(record)) for record in records]
    path.write_bytes(b"".join(framed))
    ends = np.cumsum([0] + [len(part) for part in framed]) if index is None else index
    path.with_name(path.name + ".index").write_bytes(np.asarray(ends, "<u8").tobytes())
    lines = [json.loads(line) for line in (folder / "shards.jsonl").read_text().splitlines()]
    lines[shard] |= {"num_bytes": path.stat().st_size, "num_records": len(framed),
                     "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "shards.jsonl").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"shards_sha256": hashlib.sha256(text.encode()).hexdigest(),
                 "num_bytes": sum(line["num_bytes"] for line in lines)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("change, message", [
    (lambda d: rewrite_shard(d, 2, [made_up_record(i, record_id="image-0" if i == 5 else f"image-{i}")
                                    for i in (2, 5, 8)]), "id 'image-0' is also that of"),
    (lambda d: rewrite_shard(d, 2, [made_up_record(i) for i in (2, 5, 7)]), "belongs to shard 1, found in 2"),
])
def test_verify_finds_what_checksums_do_not_show(tmp_path, change, message, capsys):
    write_made_up(tmp_path / "records")
    change(tmp_path / "records")
    assert main(["verify", str(tmp_path / "records")]) == 1
    errors = capsys.readouterr().err
    assert message in errors and "checksum" not in errors


def test_verify_names_an_index_that_lies(tmp_path, capsys):
    write_made_up(tmp_path / "records")
    index = tmp_path / "records" / (shard_name("srum-rewards", 0, 3) + ".index")
    offsets = np.frombuffer(index.read_bytes(), "<u8").copy()
    offsets[1] = 2**63
    index.write_bytes(offsets.tobytes())
    assert main(["verify", str(tmp_path / "records")]) == 1
    assert "does not hold the offsets of the records" in capsys.readouterr().err


def test_a_box_that_is_null_is_counted_and_the_other_regions_stay(folder):
    assert folder.run([training_form("a.png", regions=[region(None), region([1, 2, 3, 4], -0.5)])]) == 0
    (record,) = folder.records
    assert [tuple(r.box) for r in record.regions] == [(1, 2, 4, 5)]
    assert folder.summary["warnings"] == {"region_box_unusable": 1}


def test_lines_may_end_as_on_any_system(folder):
    entries = [json.dumps(training_form(name)).encode() for name in ("a.png", "b.png")] + [b"{"]
    for number, end in enumerate((b"\r\n", b"\r")):
        (folder.path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + end.join(entries) + end)
        out = folder.path / f"out{number}"
        assert main(["import-jsonl", "--jsonl", str(folder.path / "in.jsonl"), "--images", str(folder.images),
                     "--out", str(out), "--max-reject-rate", "0.5"]) == 0
        (reject,) = map(json.loads, (out / "rejects" / "import-00000-of-00001.jsonl").read_text().splitlines())
        assert reject["line"] == 3 and json.loads((out / "summary-import.json").read_text())["exported"] == 2


def test_a_picture_that_is_a_link_to_nothing_is_rejected_with_where_it_leads(folder):
    (folder.images / "link.png").symlink_to("../blobs/1")
    assert folder.run([training_form("a.png"), training_form("link.png")], "--max-reject-rate", "0.5") == 0
    (reject,) = folder.rejects
    assert reject["reason"] == "missing_image" and "a link to ../blobs/1" in reject["detail"]
