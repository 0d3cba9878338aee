"""The whole suite on the world of shapes through the real command: stages, resuming, replay, what is missing."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from srum_jax.evaluation.registry import NAMES, open_benchmark
from srum_jax.families.registry import samplers
from srum_jax.overrides import field_names
from srum_jax.worlds.shapes.base import trained_janus
from tests import commands
from tests.evaluation.drawn import BENCHMARK, ITEMS, call, results
from tests.generation.fakes import contents
from tests.imports import ROOT


def test_given_pictures_are_judged_and_scored(drawn, tmp_path, capsys):
    out = tmp_path / "out"
    assert call(out, "--images", drawn, "--model-id", "drawn") == 0
    found = results(out)
    assert (found["complete"], found["num_items"], found["num_judged"], found["num_failed"]) == (True, 64, 64, 0)
    assert found["scores"]["overall"] == 0.5 and found["scores"]["color"]["mean"] == 0.5
    assert found["model"] == {"id": "drawn", "checkpoint_sha256": None} and found["judge"]["id"] == "oracle"
    assert "overall: 0.5000" in capsys.readouterr().out


def test_a_picture_that_is_missing_leaves_no_overall_number_until_it_is_there(drawn, tmp_path, capsys):
    out, lost = tmp_path / "out", drawn / BENCHMARK.image(ITEMS[3], 0)
    kept = lost.read_bytes()
    lost.unlink()
    (drawn / "color" / "other.png").write_bytes(kept)
    assert call(out, "--images", drawn) == 3
    said = capsys.readouterr()
    assert "1 images missing" in said.out and "1 other images ignored" in said.out and "1 of 64 items" in said.err
    found = results(out)
    assert found["scores"]["overall"] is None and found["scores"]["color"] is None and not found["complete"]
    assert found["scores"]["complex"]["n"] == 8 and found["missing_items"] == ["003"]
    assert found["missing_images"] == ["color/003.png: no such file"]
    assert "partial" not in said.out
    assert call(out, "--stage", "score", "--allow-partial") == 3
    assert "partial color: 0.5714 (n = 7)" in capsys.readouterr().out
    lost.write_bytes(kept)
    assert call(out, "--images", drawn) == 0 and results(out)["complete"]


def test_replies_can_be_replayed_without_pictures_and_a_call_that_is_not_there_is_named(drawn, tmp_path, capsys):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert call(first, "--images", drawn) == 0
    lines = (first / "replies.jsonl").read_text().splitlines()
    assert len(lines) == 64
    replay = ["--judge", f"replay:{first / 'replies.jsonl'}", "--images", tmp_path / "nothing"]
    assert call(second, *replay) == 0
    assert results(second)["scores"] == results(first)["scores"]
    assert results(second)["judge"] == results(first)["judge"] and results(second)["replies_sha256"]
    (tmp_path / "short.jsonl").write_text("\n".join(lines[:5] + lines[6:]))
    capsys.readouterr()
    assert call(third, "--judge", f"replay:{tmp_path / 'short.jsonl'}", "--images", tmp_path / "nothing") == 2
    assert "no reply to call 'score', attempt 1, of item 005/0" in capsys.readouterr().err


def test_a_reply_that_cannot_be_read_is_listed_and_leaves_no_overall_number(drawn, tmp_path):
    assert call(tmp_path / "a", "--images", drawn) == 0
    text = (tmp_path / "a" / "replies.jsonl").read_text()
    line = json.loads(text.splitlines()[0])
    broken = json.dumps(line | {"text": "it is nice"}) + "\n" + text.partition("\n")[2]
    (tmp_path / "r.jsonl").write_text(broken)
    assert call(tmp_path / "b", "--judge", f"replay:{tmp_path / 'r.jsonl'}", "--images", drawn) == 3
    found = results(tmp_path / "b")
    assert found["scores"]["overall"] is None and list(found["failed"]) == ["000"] and found["num_failed"] == 1


def test_two_models_are_compared_and_judges_are_never_mixed(drawn, tmp_path, capsys):
    assert call(tmp_path / "a", "--images", drawn) == 0
    worse = shutil.copytree(drawn, tmp_path / "worse")
    for item in ITEMS[:8]:
        Image.new("RGB", (48, 48), "white").save(worse / BENCHMARK.image(item, 0))
    assert call(tmp_path / "b", "--images", worse, "--against", tmp_path / "a" / "results.json") == 0
    said = capsys.readouterr().out
    assert "color: -0.5000" in said and "complex: +0.0000 [+0.0000, +0.0000]" in said and "overall: -0.0625" in said
    replay = ["--judge", f"replay:{tmp_path / 'a' / 'replies.jsonl'}", "--images", drawn]
    assert call(tmp_path / "a", *replay) == 2
    assert "judge.file_sha256" in capsys.readouterr().err
    assert call(tmp_path / "c", *replay, "--against", tmp_path / "a") == 0
    told = [json.loads(line) for line in (tmp_path / "a" / "replies.jsonl").open()]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(line | {"judge": {"id": "x", "revision": "1"}}) + "\n"
                                                  for line in told))
    other = ["--judge", f"replay:{tmp_path / 'other.jsonl'}", "--images", drawn]
    assert call(tmp_path / "d", *other, "--against", tmp_path / "a") == 2
    assert 'judge.id: the folder "oracle", this command "x"' in capsys.readouterr().err


def test_a_judge_stage_alone_says_by_its_exit_code_that_pictures_are_missing(drawn, tmp_path, capsys):
    (drawn / BENCHMARK.image(ITEMS[3], 0)).unlink()
    assert call(tmp_path / "out", "--images", drawn, "--stage", "judge") == 3
    assert "1 images are missing or unreadable" in capsys.readouterr().err
    assert len((tmp_path / "out" / "replies.jsonl").read_text().splitlines()) == 63


def test_processes_share_the_judging_and_the_last_one_has_the_result(drawn, tmp_path, capsys):
    assert call(tmp_path / "alone", "--images", drawn) == 0
    out, shared = tmp_path / "shared", ["--images", drawn, "--num-processes", 2]
    assert call(out, *shared, "--process-index", 1) == 0
    assert not (out / "results.json").exists() and not (out / "replies.jsonl").exists()
    assert "results of other processes are missing" in capsys.readouterr().out
    assert call(out, *shared, "--process-index", 0) == 0
    assert results(out) == results(tmp_path / "alone")
    assert (out / "replies.jsonl").read_bytes() == (tmp_path / "alone" / "replies.jsonl").read_bytes()


def test_two_commands_at_once_in_one_folder_spoil_nothing(drawn, tmp_path):
    assert call(tmp_path / "alone", "--images", drawn) == 0
    out = tmp_path / "out"
    both = [commands.start("srum_jax.evaluate", "--benchmark", "shapes", "--images", drawn, "--out", out)
            for _ in range(2)]
    codes = [process.finish().code for process in both]
    assert 0 in codes and set(codes) <= {0, 1}, codes
    assert call(out, "--images", drawn) == 0 and contents(out) == contents(tmp_path / "alone")


def test_a_slice_of_each_category_is_incomplete(drawn, tmp_path):
    assert call(tmp_path / "out", "--images", drawn, "--start", 1, "--end", 6, "--step", 2) == 3
    found = results(tmp_path / "out")
    assert (found["num_items"], found["num_judged"], found["complete"]) == (64, 24, False)
    assert call(tmp_path / "out", "--stage", "score") == 3 and results(tmp_path / "out") == found


def test_a_picture_that_was_changed_since_it_was_judged_is_told(drawn, tmp_path, capsys):
    assert call(tmp_path / "out", "--images", drawn) == 0
    Image.new("RGB", (48, 48), "red").save(drawn / BENCHMARK.image(ITEMS[0], 0))
    assert call(tmp_path / "out", "--images", drawn) == 1
    assert "--repair" in capsys.readouterr().err
    assert call(tmp_path / "out", "--images", drawn, "--repair") == 0
    assert results(tmp_path / "out")["scores"]["color"]["mean"] == 0.375


def test_scoring_imports_no_array_library_for_models_and_opens_no_connection(drawn, tmp_path):
    assert call(tmp_path / "out", "--images", drawn, "--stage", "judge") == 0
    code = ("import sys\nsys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit(event))\n"
            "from srum_jax import evaluate\n"
            f"code = evaluate.main(['--benchmark', 'shapes', '--stage', 'score', '--out', {str(tmp_path / 'out')!r}])\n"
            "assert code == 0 and not {'jax', 'flax', 'torch', 'transformers'} & set(sys.modules), sys.modules.keys()")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_replaying_in_the_judge_stage_opens_no_connection(drawn, tmp_path):
    assert call(tmp_path / "first", "--images", drawn) == 0
    words = ["--benchmark", "shapes", "--stage", "judge", "--images", str(drawn), "--out", str(tmp_path / "out"),
             "--judge", f"replay:{tmp_path / 'first' / 'replies.jsonl'}"]
    code = ("import sys\nsys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit(event))\n"
            f"from srum_jax import evaluate\nassert evaluate.main({words}) == 0\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "replies.jsonl").read_bytes() == (tmp_path / "first" / "replies.jsonl").read_bytes()


def test_every_setting_of_a_benchmark_is_one_of_some_family_and_shapes_sets_its_two_bases():
    known = {name: {f"sampler.{field}" for field in field_names(sampler)} for name, sampler in samplers().items()}
    for name in NAMES:
        drawing = open_benchmark(name, template="").drawing
        assert drawing is None or set(drawing.settings) <= set().union(*known.values()), name
    assert known["janus_pro"] <= set(BENCHMARK.drawing.settings) and not known["blip3o"] & set(
        BENCHMARK.drawing.settings)


@pytest.mark.slow
def test_the_tiny_janus_draws_with_the_settings_of_its_page(tmp_path):
    done = commands.run("srum_jax.evaluate", "--benchmark", "shapes", "--stage", "all", "--dtype", "float32",
                        "--checkpoint", trained_janus(), "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = results(tmp_path / "out")
    assert found["sampler"] == {"guidance": 1.5, "temperature": 0.8}
    assert found["complete"] and found["scores"]["overall"] > 0.4


@pytest.mark.slow
def test_the_command_of_the_readme_draws_judges_and_scores(tmp_path):
    done = commands.run_afresh("srum_jax.evaluate", "--benchmark", "shapes", "--stage", "all", "--dtype", "float32",
                               "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = results(tmp_path / "out")
    assert found["complete"] and 0.4 < found["scores"]["overall"] < 1.0
    assert found["model"]["id"] == "base_weights" and found["sampler"]["guidance"]["text_scale"] == 2.0
    before = (tmp_path / "out" / "results.json").read_bytes()
    again = commands.run("srum_jax.evaluate", "--benchmark", "shapes", "--dtype", "float32", "--out", tmp_path / "out")
    assert again.code == 0 and "0 images now, 64 were there" in again.out
    assert (tmp_path / "out" / "results.json").read_bytes() == before
