"""The authors' files: their formatter, and there and back again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.data.schema import GlobalStatus, Region
from srum_jax.data.writer import record_of_image
from srum_jax.rewards.boxes import Box
from tests.data.made_up import image_bytes
from tests.golden import golden_json
from tests.tools.fakes import all_stages, exported, generated, image_path, scores_for
from tools.make_rewards.__main__ import main
from tools.make_rewards.errors import Rejects
from tools.make_rewards.official_format import (
    convert_global,
    convert_regions,
    official_line,
    official_training_entry,
    parse_entry,
)

IMAGE = image_bytes(1, 48, 40)


def test_training_records_are_those_of_the_authors_formatter():
    cases = golden_json("bagel/rewards/training_records.json")
    assert len(cases) == 10
    for case in cases:
        assert official_training_entry(case["record"], case["prompt_of_image"]) == case["result"], case


@pytest.mark.parametrize("change", [
    {"vlm_rewards": None}, {"vlm_rewards": [None]}, {"vlm_rewards": 3}, {"vlm_rewards": [3]},
    {"global_layout_reward": 3}, {"image_file": None}, {"image_file": ["a.png"]},
])
def test_null_or_a_number_where_a_list_or_an_object_belongs_drops_the_record_as_the_formatter_does(change):
    entry = {"image_file": "a.png", "vlm_rewards": [{"identified_object": "cup", "score": 0.5, "bbox": [1, 2, 3, 4]}]}
    assert official_training_entry(entry, {"a.png": "a cup"}) is not None
    assert official_training_entry(entry | change, {"a.png": "a cup"}) is None
    assert official_training_entry(None, {"a.png": "a cup"}) is None


def test_a_null_score_of_the_layout_is_none_and_a_null_box_is_taken_as_it_stands():
    region = {"identified_object": "cup", "score": 0.5, "bbox": None}
    entry = {"image_file": "a.png", "vlm_rewards": [region], "global_layout_reward": {"global_layout_score": None}}
    assert official_training_entry(entry, {"a.png": "a cup"})["vlm_rewards"] == [
        {"object": "cup", "bbox": None, "score": 0.5}]


def test_both_forms_of_a_golden_record_are_read_as_the_same_scores():
    """Of regions that have a name: the formatter drops the others, the import keeps them."""
    for case in golden_json("bagel/rewards/training_records.json"):
        if case["result"] is None:
            continue
        record = case["record"] | {"prompt": case["result"]["prompt"]}
        record["vlm_rewards"] = [region for region in record.get("vlm_rewards", [])
                                 if region.get("identified_object") and "score" in region]
        for one, other in [(parse_entry(record), parse_entry(case["result"]))]:
            warnings = Rejects().warnings
            assert convert_global(one) == convert_global(other)
            (left, _), (right, _) = (convert_regions(form, 48, 40, warnings) for form in (one, other))
            assert [(r.box, r.score, r.object) for r in left] == [(r.box, r.score, r.object) for r in right]


@st.composite
def boxes(draw):
    x0, y0 = draw(st.integers(0, 47)), draw(st.integers(0, 39))
    return Box(x0, y0, draw(st.integers(x0 + 1, 48)), draw(st.integers(y0 + 1, 40)))


REGIONS = st.lists(st.builds(Region, box=boxes(), score=st.floats(-1, 1), object=st.text(min_size=1, max_size=9)),
                   max_size=5)


@settings(max_examples=200)
@given(REGIONS, st.none() | st.floats(-1, 1))
def test_export_in_the_authors_format_and_import_give_the_same_boxes_names_and_scores(regions, layout):
    record = record_of_image(
        IMAGE, record_id="a", index=0, prompt="a cup", regions=tuple(regions), global_score=layout,
        global_status=GlobalStatus.ABSENT if layout is None else GlobalStatus.OK, global_reason=None)
    entry = json.loads(official_line(record, "a.png"))
    again = parse_entry(entry)
    assert (again.image_file, again.prompt) == ("a.png", "a cup")
    read, _ = convert_regions(again, 48, 40, Rejects().warnings)
    assert [(region.box, region.score, region.object) for region in read] == [
        (region.box, region.score, region.object) for region in regions]
    assert convert_global(again).get("global_score") == layout


def test_the_file_of_a_whole_run_can_be_imported_and_gives_the_same_rewards(tmp_path):
    out = generated(tmp_path / "run")
    image_path(out, 4).unlink()
    assert all_stages(out, scores_for(tmp_path / "scores.jsonl")) == 0
    file = tmp_path / "official.jsonl"
    assert main(["export", "--out", str(out), "--official-jsonl", str(file)]) == 0, "of what was exported before, too"
    assert main(["import-jsonl", "--jsonl", str(file), "--images", str(out / "generate"), "--out",
                 str(tmp_path / "imported"), "--num-shards", "2"]) == 0
    theirs = {record.image_sha256: record for record in exported(tmp_path / "imported").values()}
    ours = {record.image_sha256: record for record in exported(out).values()}
    assert theirs.keys() == ours.keys() and len(ours) == 4
    for digest, record in ours.items():
        other = theirs[digest]
        assert (other.prompt, other.global_score, other.global_reason) == (
            record.prompt, record.global_score, record.global_reason)
        assert [(r.box, r.score, r.object) for r in other.regions] == [
            (r.box, r.score, r.object) for r in record.regions]
        assert other.provenance["imported"] is True and record.provenance["imported"] is False
