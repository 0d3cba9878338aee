"""A run with a fake model: what is written, and what a second run makes of what a first one left."""

import dataclasses
import errno
import hashlib
import io
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.generation.prompt_file import BadRow, PromptList
from srum_jax.generation.prompts import Prompt
from srum_jax.generation.row_checks import check_rows, raise_bad_rows
from srum_jax.generation.run_file import Run, begin_run, compare_run
from srum_jax.generation.run_settings import OutputSettings
from srum_jax.generation.runner import finish_shards, write_rejects
from srum_jax.generation.work_units import plan_work
from srum_jax.inference.settings import TextSampler
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import DamagedError, StageFolder
from srum_jax.stages.processes import Processes
from srum_jax.storage.errors import WriteError
from tests.generation.fakes import SETTINGS, FakePipeline, contents, made_up_prompts, records, run

PROMPTS = made_up_prompts(7)


@pytest.fixture
def whole(tmp_path):
    """A run that nothing interrupted."""
    run(tmp_path / "whole", PROMPTS)
    return tmp_path / "whole"


def image_of(folder, record):
    return (folder / "generate" / record["image"]).read_bytes()


def test_records_say_what_was_made_and_images_carry_them(whole):
    found = records(whole)
    assert sorted(found) == [f"set-{100 + i}-c00" for i in range(7)]
    for record in found.values():
        data = image_of(whole, record)
        assert record["image_sha256"] == hashlib.sha256(data).hexdigest()
        image = Image.open(io.BytesIO(data))
        assert image.size == (record["width"], record["height"]) == (16, 16)
        embedded = json.loads(image.text["srum"])
        assert embedded == {name: value for name, value in record.items() if name != "image_sha256"}
        assert record["image"].startswith(f"images/{record['index'] % 2:05d}/")
    record = found["set-103-c00"]
    assert record["sampler"]["guidance"]["interval"] == [0.4, 1.0] and record["think_text"] is None


def test_shards_and_summary_follow_from_the_contents(whole):
    done = json.loads((whole / "generate" / "done" / "00001-of-00002.json").read_text())
    assert done["num_records"] == 3 and done["chunks"] == ["000000001-c00.jsonl", "000000005-c00.jsonl"]
    summary = json.loads((whole / "summary-generate.json").read_text())
    assert summary["images"] == summary["candidates"] == summary["prompts"] == 7


def test_plans_are_kept_and_the_rewritten_prompt_found(tmp_path):
    settings = dataclasses.replace(SETTINGS, plan=TextSampler(9))
    pipeline, summary = run(tmp_path, PROMPTS[:3], settings)
    record = records(tmp_path)["set-101-c00"]
    assert record["think"] and record["think_text"].endswith("and more")
    assert record["detailed_prompt"] == "picture 1 in oil"
    assert record["sampler"]["plan"] == {"max_tokens": 9, "temperature": None}
    assert all(plan == TextSampler(9) for _, plan in pipeline.batches)
    assert summary["think"] == {"plans_empty": 0, "plans_truncated": 0, "plans_with_detailed_prompt": 3}


def test_candidates_differ_by_their_seed(tmp_path):
    run(tmp_path, PROMPTS[:2], dataclasses.replace(SETTINGS, num_candidates=3))
    found = records(tmp_path)
    assert len(found) == 6 and len({record["seed"] for record in found.values()}) == 6
    assert len({record["image_sha256"] for record in found.values()}) == 6


def test_rows_with_their_own_size_get_it(tmp_path):
    pipeline, _ = run(tmp_path, [*PROMPTS[:2], Prompt(2, "set", "x", "wide", height=8, width=32)])
    assert (records(tmp_path)["set-x-c00"]["height"], records(tmp_path)["set-x-c00"]["width"]) == (8, 32)
    assert all(len({(r.height, r.width) for r in requests}) == 1 for requests, _ in pipeline.batches)


def test_edits_use_their_picture_and_are_batches_of_their_own(tmp_path):
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "red.png")
    digest = hashlib.sha256((tmp_path / "red.png").read_bytes()).hexdigest()
    edit = Prompt(0, "set", "e", "make it red", image="red.png", image_sha256=digest)
    pipeline, _ = run(tmp_path / "out", [edit, Prompt(2, "set", "t", "new")], sources=tmp_path)
    assert [len(requests) for requests, _ in pipeline.batches] == [1, 1]
    record = records(tmp_path / "out")["set-e-c00"]
    assert (record["source_image"], record["source_image_sha256"]) == ("red.png", digest)
    assert (record["height"], record["width"]) == (24, 24), "the model decides from the picture"
    pixels = np.asarray(Image.open(tmp_path / "out" / "generate" / record["image"]))
    assert pixels[0, 0].tolist() == [1, 2, 3]
    Image.new("RGB", (9, 9)).save(tmp_path / "red.png")
    with pytest.raises(DamagedError, match=r"red.png: expected the picture that was there"):
        run(tmp_path / "other", [edit], sources=tmp_path)


def test_cropping_happens_before_the_image_is_stored(tmp_path):
    class Framed(FakePipeline):
        def _image(self, request, plan):
            image = super()._image(request, plan)
            image.pixels[:3] = 0
            image.pixels[3:] |= 1
            return image

    settings = dataclasses.replace(SETTINGS, output=OutputSettings(2, crop_black_border=True))
    run(tmp_path, PROMPTS[:1], settings, Framed())
    record = records(tmp_path)["set-100-c00"]
    assert (record["height"], record["width"]) == (13, 16)
    assert Image.open(tmp_path / "generate" / record["image"]).size == (16, 13)


@pytest.mark.parametrize("fails_at", range(4))
def test_a_run_that_failed_anywhere_goes_on_to_the_same_bytes_and_repeats_nothing(tmp_path, whole, fails_at):
    first = FakePipeline(fails_at)
    with pytest.raises(RuntimeError, match="as it was asked to"):
        run(tmp_path / "broken", PROMPTS, pipeline=first)
    assert not (tmp_path / "broken" / "summary-generate.json").exists()
    second, _ = run(tmp_path / "broken", PROMPTS)
    assert contents(tmp_path / "broken") == contents(whole)
    prompts = [request.prompt for pipeline in (first, second) for requests, _ in pipeline.batches
               for request in dict.fromkeys(requests)]
    assert sorted(prompts) == sorted(prompt.prompt for prompt in PROMPTS)
    third, _ = run(tmp_path / "broken", PROMPTS)
    assert third.batches == []


@pytest.mark.parametrize("writes", range(11))
def test_a_full_disk_at_any_write_loses_nothing_that_was_committed(tmp_path, whole, monkeypatch, writes):
    left = [writes]

    def sync_until_full(file):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        file.flush()

    monkeypatch.setattr("srum_jax.storage.atomic_file.sync", sync_until_full)
    with pytest.raises(WriteError, match=r"cannot be written, \d+ bytes \(No space left on device\)"):
        run(tmp_path / "full", PROMPTS)
    monkeypatch.undo()
    assert not [name for name in contents(tmp_path / "full") if ".partial" in name]
    run(tmp_path / "full", PROMPTS)
    assert contents(tmp_path / "full") == contents(whole)


def test_several_processes_make_what_one_makes_in_any_number_and_order(tmp_path, whole):
    assert run(tmp_path / "three", PROMPTS, process=2, processes=3)[1] is None
    assert run(tmp_path / "three", PROMPTS, process=0, processes=3)[1] is None
    assert run(tmp_path / "three", PROMPTS, process=1, processes=3)[1] is not None
    assert contents(tmp_path / "three") == contents(whole)
    run(tmp_path / "two", PROMPTS, process=1, processes=3)
    run(tmp_path / "two", PROMPTS, process=0, processes=2)
    run(tmp_path / "two", PROMPTS, process=1, processes=2)
    assert contents(tmp_path / "two") == contents(whole)


def test_an_image_that_is_gone_is_made_again(tmp_path, whole):
    run(tmp_path / "b", PROMPTS)
    image = next((tmp_path / "b").rglob("set-103-c00.png"))
    image.unlink()
    pipeline, _ = run(tmp_path / "b", PROMPTS)
    assert len(pipeline.batches) == 1 and contents(tmp_path / "b") == contents(whole)


def test_a_commit_whose_image_is_gone_is_withdrawn_until_the_image_is_back(whole):
    before = contents(whole)
    next(whole.rglob("set-103-c00.png")).unlink()
    with pytest.raises(RuntimeError, match="as it was asked to"):
        run(whole, PROMPTS, pipeline=FakePipeline(0))
    assert sorted(before.keys() - contents(whole).keys()) == [
        "generate/chunks/00001-of-00002/000000001-c00.jsonl", "generate/done/00001-of-00002.json",
        "generate/images/00001/set-103-c00.png", "summary-generate.json"]
    run(whole, PROMPTS)
    assert contents(whole) == before


@pytest.mark.parametrize("pattern", ["set-103-c00.png", "000000001-c00.jsonl"])
@pytest.mark.parametrize("damage", [b"", b"{}\n", b"changed"])
def test_a_file_that_was_changed_is_named_and_repaired_only_if_asked(tmp_path, whole, pattern, damage):
    path = next(whole.rglob(pattern))
    before = contents(whole)
    path.write_bytes(damage)
    with pytest.raises(DamagedError, match=pattern):
        run(whole, PROMPTS)
    assert path.read_bytes() == damage
    run(whole, PROMPTS, repair=True)
    assert contents(whole) == before


def test_what_a_killed_process_left_half_written_is_replaced_or_removed(tmp_path, whole):
    run(tmp_path / "b", PROMPTS, process=1, processes=2)
    leftovers = ["generate/images/00000/.set-100-c00.png.partial", "generate/chunks/00000-of-00002/.000000000-c00.jsonl"
                 ".partial", ".summary-generate.json.partial", "generate/done/.00001-of-00002.json.partial"]
    for name in leftovers:
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_text("half")
    run(tmp_path / "b", PROMPTS)
    assert contents(tmp_path / "b") == contents(whole)


def test_a_file_that_several_processes_create_is_written_once_and_compared(tmp_path):
    first, second = (StageFolder(tmp_path, GENERATE, 1, Processes(number, 2)) for number in range(2))
    first.create(first.summary, b"a")
    (tmp_path / ".summary-generate.json.partial").write_bytes(b"a")  # killed when all but this was done
    second.create(second.summary, b"a")
    with pytest.raises(DamagedError, match=r"summary-generate.json: expected the 1 bytes"):
        second.create(second.summary, b"b")
    assert [path.name for path in tmp_path.iterdir()] == ["summary-generate.json"]


@pytest.mark.parametrize("theirs", [b"same", b"other"])
def test_a_process_that_comes_second_by_a_moment_replaces_nothing(tmp_path, monkeypatch, theirs):
    folder = StageFolder(tmp_path, GENERATE, 1, Processes(0, 2))

    def sync_after_the_other(file):
        file.flush()
        folder.summary.write_bytes(theirs)

    monkeypatch.setattr("srum_jax.storage.atomic_file.sync", sync_after_the_other)
    if theirs == b"same":
        folder.create(folder.summary, b"same")
    else:
        with pytest.raises(DamagedError, match=r"summary-generate.json: expected"):
            folder.create(folder.summary, b"same")
    assert contents(tmp_path) == {"summary-generate.json": theirs}


A_RUN = Run(SETTINGS, PROMPTS, "weights", {})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (dataclasses.replace(A_RUN, settings=dataclasses.replace(SETTINGS, num_candidates=2)),
         "generate.settings.num_candidates: the folder 1, this command 2"),
        (dataclasses.replace(A_RUN, settings=dataclasses.replace(SETTINGS, output=OutputSettings(3))),
         "num_shards: the folder 2, this command 3"),
        (dataclasses.replace(A_RUN, settings=dataclasses.replace(SETTINGS, sampler=FlowSampler().of_edits())),
         'generate.settings.sampler.guidance.renorm: the folder "global", this command "text_channel"'),
        (dataclasses.replace(A_RUN, settings=dataclasses.replace(SETTINGS, plan=TextSampler())),
         'generate.settings.plan: the folder null, this command {"max_tokens": 1000, "temperature": null}'),
        (dataclasses.replace(A_RUN, prompts=PROMPTS[:3]), "prompts.count: the folder 7, this command 3"),
        (dataclasses.replace(A_RUN, checkpoint_sha256="x"),
         'generate.checkpoint_sha256: the folder "weights", this command "x"'),
        (dataclasses.replace(A_RUN, templates={"think_generation": "y"}),
         'generate.templates.think_generation: the folder null, this command "y"'),
    ],
)
def test_a_folder_that_was_begun_with_something_else_is_refused_with_the_difference(tmp_path, other, difference):
    folder = StageFolder(tmp_path, GENERATE, 2)
    assert not compare_run(A_RUN, folder)
    begin_run(A_RUN, folder)
    assert compare_run(A_RUN, folder)
    with pytest.raises(BadInput) as caught:
        compare_run(other, folder)
    assert difference in str(caught.value) and "Use another --out" in str(caught.value)


def test_a_run_file_that_is_damaged_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(BadInput, match=r"run.json: not valid JSON"):
        compare_run(A_RUN, StageFolder(tmp_path, GENERATE, 2))


def rows_of(*prompts):
    return PromptList([dataclasses.replace(prompt, line=prompt.index + 1) for prompt in prompts], [], "list.jsonl")


def test_rows_that_the_model_cannot_serve_are_found_before_anything_is_made(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(tmp_path / "grey.png")
    listed = rows_of(
        Prompt(0, "s", "0", "good"), Prompt(1, "s", "1", "x" * 31), Prompt(2, "s", "2", "a", height=9, width=8),
        Prompt(3, "s", "3", "a", image="absent.png"), Prompt(4, "s", "4", "a", image="broken.png"),
        Prompt(5, "s", "5", "a", image="grey.png"),
    )
    found = check_rows(listed, FakePipeline(), folder=epath.Path(tmp_path), height=16, width=16)
    assert [prompt.index for prompt in found.rows] == [0, 5]
    assert found.rows[1].image_sha256 == hashlib.sha256((tmp_path / "grey.png").read_bytes()).hexdigest()
    assert [(row.line, row.reason) for row in found.bad] == [
        (2, "bad_prompt"), (3, "bad_size"), (4, "missing_image"), (5, "unreadable_image")]
    with pytest.raises(BadInput, match=r"4 rows cannot be used[^\n]*\n  list.jsonl:2: prompt: expected 1 to 30"):
        raise_bad_rows(found)
    raise_bad_rows(rows_of(Prompt(0, "s", "0", "good")))


def test_rows_that_were_left_out_are_listed_by_shard_and_counted(tmp_path):
    bad = [BadRow(index, index + 1, "bad_prompt", "why", None) for index in (1, 2, 3)]
    prompts = [prompt for prompt in PROMPTS if prompt.index not in (1, 2, 3)]
    run(tmp_path, prompts)
    (tmp_path / "summary-generate.json").unlink()
    for path in (tmp_path / "generate" / "done").iterdir():
        path.unlink()
    folder = StageFolder(tmp_path, GENERATE, 2)
    write_rejects(bad, folder)
    summary = finish_shards(plan_work(prompts, SETTINGS), bad, folder)
    assert (summary["prompts"], summary["images"], summary["rejected"]) == (7, 4, {"bad_prompt": 3})
    lines = [json.loads(line) for line in (tmp_path / "rejects" / "generate-00001-of-00002.jsonl").open()]
    assert [(line["index"], line["line"], line["reason"]) for line in lines] == [(1, 2, "bad_prompt"),
                                                                               (3, 4, "bad_prompt")]


def test_all_rows_may_be_left_out(tmp_path):
    bad = [BadRow(0, 1, "bad_prompt", "why", None)]
    summary = finish_shards(plan_work([], SETTINGS), bad, StageFolder(tmp_path, GENERATE, 2))
    assert (summary["images"], summary["rejected"]) == (0, {"bad_prompt": 1})
