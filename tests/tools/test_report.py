"""The HTML page of a run: what it holds, from complete, partial and damaged folders."""

import base64
import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from srum_jax.generation.prompts import Prompt
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig, reward_map
from tests.tools.fakes import PROMPTS, generated, scores_for
from tests.tools.report_page import HOSTILE, call, change, decode, judged, report
from tools.make_rewards.__main__ import main
from tools.make_rewards.report.agreement import Pairs, Replies
from tools.make_rewards.report.collect import Candidate
from tools.make_rewards.report.maps import TokenMap, encode, token_grid, token_maps
from tools.make_rewards.report.page import inert_json
from tools.make_rewards.report.statistics import Histogram, Statistics


@pytest.fixture
def run(tmp_path):
    """A judged and exported run."""
    out = judged(generated(tmp_path / "run"), scores_for(tmp_path / "scores.jsonl"))
    assert main(["export", "--out", str(out), "--num-record-shards", "2"]) == 0
    return out


def test_the_page_holds_every_candidate_with_its_scores(run, tmp_path):
    page = report(run, tmp_path / "report")
    assert [row["id"] for row in page.rows] == [f"set-{i}-c00" for i in range(5)]
    row = page.rows[0]
    assert row["prompt"] == "a red circle left of a square" and row["category"] == "color" and row["directive"]
    assert row["state"] == "exported" and row["global"] == {"score": 0.8, "raw": 0.8, "reason": "fine"}
    assert page.rows[1]["global"]["score"] == 0.4 and page.rows[1]["global"]["flags"] == ["clamped"]
    assert row["regions"] == [{"box": [6, 4, 20, 14], "score": 0.5, "raw": 0.5, "verdict": "not verified",
                               "object": "shape", "severity": 0.0, "area": row["regions"][0]["area"]}]
    assert (tmp_path / "report" / row["original"]).resolve() == run / "generate" / "images" / "00000" / "set-0-c00.png"
    assert page.texts["picture-0"].startswith("data:image/webp;base64,")
    assert page.more(0)["keywords"] == ["circle", "square"]
    counts = page.summary["statistics"]["counts"]
    assert counts == {"candidates": 5, "judged": 5, "rejected": 0, "exported": 5}
    assert page.summary["statistics"]["without_directive"] == 0.6
    assert page.summary["run"]["done"] == {"generate": 5, "segment": 5, "judge": 5} and page.summary["run"]["exported"]


def test_maps_of_the_page_are_those_of_training(run, tmp_path):
    page = report(run, tmp_path / "report")
    for name, config in (("paper", RewardMapConfig.paper()), ("official", RewardMapConfig.official())):
        expected = reward_map([(Box(6, 4, 20, 14), 0.5)], 0.8, width=48, height=40, grid=(5, 6), config=config,
                              provider="components")
        found = page.more(0)["maps"][name]
        np.testing.assert_array_equal(decode(found), expected.R)
        assert np.float32(found["alpha"]) == np.float32(expected.alpha)


@pytest.mark.parametrize("seed", range(8))
def test_an_encoded_map_loses_nothing(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 100, (6, 2)), rng.integers(1, 60, (6, 2))
    regions = [{"box": [*map(int, low), *map(int, low + size)], "score": float(score)}
               for low, size, score in zip(*corners, rng.uniform(-1, 1, 6), strict=True)]
    layout = float(rng.uniform(-1, 1))
    maps = token_maps(regions, layout, width=130, height=110, pixels_per_token=16, provider="sam")
    for name, config in (("paper", RewardMapConfig.paper()), ("official", RewardMapConfig.official())):
        boxes = [(Box(*region["box"]), region["score"]) for region in regions]
        expected = reward_map(boxes, layout, width=130, height=110, grid=token_grid(130, 110, 16), config=config)
        encoded = json.loads(inert_json(encode(maps[name].R)))
        np.testing.assert_array_equal(decode(encoded), expected.R)
        factor = expected.weight + np.float32(0.5)
        assert maps[name].share_negative(0.5) == pytest.approx(np.mean(factor < 0), abs=1e-12)


def test_without_a_global_score_the_map_of_the_paper_has_no_alpha():
    maps = token_maps([{"box": [0, 0, 16, 16], "score": -1.0}], None, width=32, height=32, pixels_per_token=16,
                      provider="sam")
    assert maps["paper"].alpha is None and maps["paper"].share_negative(0.5) is None
    assert maps["paper"].R[0, 0] == -1 and maps["official"].alpha == 0.5


def test_statistics_count_what_they_are_given():
    statistics = Statistics()
    maps = {"paper": TokenMap(np.float32([[-1, 0], [0.5, 0]]), 1.0), "official": TokenMap(np.full((2, 2), 0.5), 1.0)}
    shares = {name: found.share_negative(0.5) for name, found in maps.items()}
    row = {"index": 0, "state": "judged", "category": "color", "directive": True, "status": {},
           "global": {"score": 0.4}, "regions": [{"score": -1.0}, {"score": 0.5}]}
    statistics.add(row, maps, shares)
    statistics.add({"index": 1, "state": "rejected", "rejected": {"stage": "judge", "reason": "missing_image"}}, {}, {})
    statistics.add(row | {"index": 2, "state": "rejected", "rejected": {"stage": "export", "reason": "global_zero"}},
                   maps, shares)
    found = statistics.to_json()
    assert found["counts"] == {"candidates": 3, "judged": 2, "rejected": 2, "exported": 0}
    assert found["rejected"] == [{"stage": "export", "reason": "global_zero", "count": 1},
                                 {"stage": "judge", "reason": "missing_image", "count": 1}]
    region = found["histograms"]["region"]
    assert region["count"] == 4 and region["mean"] == -0.25 and region["counts"][0] == 2 and region["counts"][30] == 2
    # Nothing trains on what was rejected: one map of four tokens is counted, and a quarter of it is below -0.5.
    assert found["histograms"]["paper"]["count"] == 4 and found["negative_factor"] == {"paper": 0.25, "official": 0.0}
    assert found["without_directive"] == pytest.approx(1 / 3)
    color = next(line for line in found["categories"] if line["name"] == "color")
    assert (color["candidates"], color["regions"], color["negative_regions"]) == (2, 4, 0.5)


def test_a_histogram_has_a_bin_of_its_own_for_zero():
    histogram = Histogram(-1, 1)
    histogram.add([-1, -0.02, 0.0, 0.02, 0.03, 1])
    assert histogram.counts[[0, 20, 21, 40]].tolist() == [1, 3, 1, 1]


def test_pairs_give_correlation_and_mean_difference():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    pairs = Pairs()
    for values in zip(x.tolist(), (x + y).tolist(), strict=True):
        pairs.add(*values)
    assert pairs.correlation == pytest.approx(np.corrcoef(x, x + y)[0, 1])
    assert pairs.mean_difference == pytest.approx(np.abs(y).mean())


def test_replies_to_one_question_are_compared_and_those_to_others_are_not():
    calls = [call("local", 1, "REGION 1\nSCORE: 0.5\n\nREGION 2\nSCORE: 0.1"), call("local", 2, "nothing"),
             call("local", 3, "REGION 1\nSCORE: 0.2"), call("region", 1, "REGION 1\nSCORE: 1.0"),
             call("region", 1, "REGION 1\nSCORE: -1.0"), call("global", 1, "SCORE: 0.3"),
             call("global", 2, "SCORE: -0.1")]
    replies = Replies("tolerant")
    replies.add(Candidate({}, None, {"calls": calls}, None, False))
    found = {line["kind"]: line for line in replies.to_json()}
    assert found.keys() == {"local", "global"}
    assert found["local"]["count"] == 1 and found["local"]["mean_difference"] == pytest.approx(0.3)
    assert found["global"]["mean_difference"] == pytest.approx(0.4)


def test_two_judges_are_compared_on_equal_boxes(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    change(other, "judge", "set-0-c00", regions=[], **{"global": {"score": 0.3, "score_raw": 0.3, "reason": "",
                                                                  "flags": []}})
    page = report(run, tmp_path / "report", "--compare", str(other))
    found = page.summary["compare"]
    assert found["images"] == {"compared": 5, "absent": 0, "other_image": 0, "not_judged": 0}
    assert found["region"]["count"] == 4 and found["region"]["mean_difference"] == 0 and found["boxes_in_both"] == 0.8
    assert found["global"]["mean_difference"] == pytest.approx(0.1) and found["verdicts_equal"] == 1
    assert page.rows[0]["global"]["other"] == 0.3 and "other" not in page.rows[0]["regions"][0]
    change(other, "generate", "set-1-c00", image_sha256="0" * 64)
    assert report(run, tmp_path / "report", "--compare", str(other)).summary["compare"]["images"]["other_image"] == 1


def test_texts_of_the_run_cannot_become_markup(tmp_path):
    prompts = [Prompt(0, "set", "0", HOSTILE, HOSTILE)]
    out = judged(generated(tmp_path / "run", prompts), scores_for(tmp_path / "s.jsonl", prompts, regions=[
        {"box": [6, 4, 20, 14], "score": 0.5, "object": HOSTILE, "reason": HOSTILE}]))
    change(out, "judge", "set-0-c00", calls=[call("global", 1, HOSTILE) | {"template_sha256": ""}])
    page = report(out, tmp_path / "report")
    row = page.rows[0]
    assert row["prompt"] == row["category"] == row["regions"][0]["object"] == row["regions"][0]["reason"] == HOSTILE
    assert page.more(0)["calls"][0]["text"] == HOSTILE
    assert "img" not in page.tags and page.tags.count("script") == 5  # row, more, picture, summary, program
    assert not any("<" in data for name, data in page.texts.items() if not name.startswith("picture"))
    text = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "onerror=alert" not in text.replace("src=x onerror=alert(1)\\u003e", "") and "\u2028" not in text
    program = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "innerHTML" not in program and "http:" not in program.replace("http://www.w3.org/2000/svg", "")


def test_a_page_is_the_same_bytes_each_time_and_leaves_nothing_else(run, tmp_path):
    for name in "ab":
        report(run, tmp_path / name)
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()
    report(run, tmp_path / "a", "--limit", "2")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["index.html"]


def test_a_part_of_the_candidates_can_be_shown(run, tmp_path):
    page = report(run, tmp_path / "report", "--limit", "2")
    assert [row["index"] for row in page.rows] == [0, 1] and page.summary["found"] == 5
    samples = [[row["index"] for row in report(run, tmp_path / "report", "--sample", "3", "--seed", str(seed)).rows]
               for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2] and samples[0] == sorted(samples[0]) and len(samples[0]) == 3
    assert len(report(run, tmp_path / "report", "--sample", "9").rows) == 5


def test_a_run_is_shown_as_far_as_it_has_come(tmp_path):
    out = generated(tmp_path / "run")
    page = report(out, tmp_path / "report")
    assert page.summary["run"]["done"] == {"generate": 5, "segment": 0, "judge": 0}
    assert not page.summary["run"]["exported"]
    assert all(row["state"] == "generated" for row in page.rows) and "maps" not in page.more(0)
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    page = report(out, tmp_path / "report")
    assert page.rows[0]["state"] == "segmented" and len(page.rows[0]["proposals"]) == 1
    # An interrupted judge, and a generate of which one unit and the mark of its shard are lost.
    judged(out, scores_for(tmp_path / "s.jsonl"))
    shutil.rmtree(out / "judge" / "chunks" / "00001-of-00002")
    last = sorted(out.glob("generate/chunks/00000-of-00002/*.jsonl"))[-1]
    number_lost = len(last.read_text().splitlines())
    last.unlink()
    (out / "generate" / "done" / "00000-of-00002.json").unlink()
    page = report(out, tmp_path / "report")
    assert len(page.rows) == 5 - number_lost == page.summary["run"]["done"]["generate"]
    assert page.summary["run"]["expected"] == 5 and page.summary["run"]["done"]["judge"] < len(page.rows)
    assert {row["state"] for row in page.rows} == {"judged", "segmented"}


def test_rejected_candidates_say_which_stage_rejected_them_and_why(tmp_path):
    out = generated(tmp_path / "run")
    images = out / "generate" / "images"
    (images / "00001" / "set-1-c00.png").unlink()
    judged(out, scores_for(tmp_path / "s.jsonl"))
    change(out, "judge", "set-2-c00", regions=[])
    assert main(["export", "--out", str(out), "--max-reject-rate", "1"]) == 0
    (images / "00000" / "set-4-c00.png").write_bytes(b"no image")
    page = report(out, tmp_path / "report")
    assert page.by_id["set-1-c00"]["rejected"]["stage"] == "segment"
    assert page.by_id["set-1-c00"]["rejected"]["reason"] == "missing_image"
    assert page.by_id["set-1-c00"]["note"] == "image file missing" and "original" not in page.by_id["set-1-c00"]
    assert page.by_id["set-2-c00"]["rejected"]["stage"] == "export" and page.by_id["set-2-c00"]["tags"] == [
        "flag:clamped (global)", "rejected:no_region"]
    assert "undecodable image" in page.by_id["set-4-c00"]["note"] and "picture-4" not in page.texts
    Image.new("RGB", (48, 40)).save(images / "00000" / "set-4-c00.png")
    assert "not the one that was generated" in report(out, tmp_path / "report").by_id["set-4-c00"]["note"]


def test_damaged_files_are_errors_that_name_them_and_leave_the_page_as_it_was(run, tmp_path, capsys):
    report(run, tmp_path / "report")
    before = (tmp_path / "report" / "index.html").read_bytes()
    chunk = sorted(run.glob("judge/chunks/*/*.jsonl"))[0]
    whole = chunk.read_bytes()
    broken = json.loads(whole.splitlines()[0])
    scored = [broken["regions"][0] | {"score": float("nan")}]
    for damaged, message in (
        (whole[:-20], f"{chunk.name}:"), (b"", "expected the records set-0-c00"),
        (whole.replace(b'"global_status"', b'"other"'), "field 'global_status'"),
        (json.dumps(broken | {"regions": scored}).encode() + b"\n" + whole.partition(b"\n")[2],
         "expected a number in [-1, 1], found nan"),
    ):
        chunk.write_bytes(damaged)
        assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 1
        assert message in capsys.readouterr().err
    chunk.write_bytes(whole)
    change(run, "generate", "set-0-c00", image="images/../../../etc/passwd")
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 1
    assert "expected a file below generate/images" in capsys.readouterr().err
    assert (tmp_path / "report" / "index.html").read_bytes() == before
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


@pytest.mark.parametrize(("options", "message"), [
    (["--thumbnail-pixels", "4"], "--thumbnail-pixels: expected a whole number from 16 to 2048, found '4'"),
    (["--sample", "0"], "--sample: expected a whole number from 1, found '0'"),
    (["--lambda-c", "nan"], "--lambda-c: expected a number from 0 to 1000000.0, found 'nan'"),
])
def test_options_that_cannot_be_used_are_errors(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path), "--out", str(tmp_path / "report"), *options])
    assert message in capsys.readouterr().err


def test_what_is_compared_has_to_be_a_run(tmp_path, capsys):
    out = generated(tmp_path / "run", PROMPTS[:1])
    assert main(["report", str(out), "--out", str(tmp_path / "report"), "--compare", "/nowhere"]) == 2
    assert "/nowhere: expected the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "report" / "index.html").exists()


def test_a_folder_without_a_run_and_a_page_too_large_are_errors(tmp_path, capsys, monkeypatch):
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    out = generated(tmp_path / "run")
    assert main(["report", str(out), "--out", str(out / "run.json")]) == 2
    assert "expected a folder, found a file" in capsys.readouterr().err
    change(out, "generate", "set-0-c00", think_text="x" * 2**20)
    assert main(["report", str(out), "--out", str(tmp_path / "report"), "--max-megabytes", "1"]) == 2
    assert "--sample N" in capsys.readouterr().err and not list((tmp_path / "report").iterdir())
