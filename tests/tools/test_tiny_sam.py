"""The Segment Anything that ships with the package, the command that makes it, and `segment` with it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from experiments import tiny_sam  # noqa: E402
from experiments._tiny_sam.generator import POINTS_PER_SIDE, TINY_WORLD  # noqa: E402
from experiments._tiny_sam.measure import MATCH, box_iou, held_out_drawings  # noqa: E402
from experiments._tiny_sam.samples import sample_batch  # noqa: E402
from experiments._tiny_sam.settings import SampleSettings  # noqa: E402
from experiments._tiny_sam.truth_masks import mask_box, truth_masks  # noqa: E402
from srum_jax.generation.run_file import Run, begin_run  # noqa: E402
from srum_jax.inference.requests import GeneratedImage  # noqa: E402
from srum_jax.regions.sam import Sam, SamConfig  # noqa: E402
from srum_jax.rewards.boxes import Box  # noqa: E402
from srum_jax.rewards.mask_rle import decode_mask  # noqa: E402
from srum_jax.stages import GENERATE  # noqa: E402
from srum_jax.stages.folder import StageFolder  # noqa: E402
from srum_jax.worlds.shapes.base import RECIPE, check_trained_base, trained_sam  # noqa: E402
from tests import commands  # noqa: E402
from tests.generation.fakes import run  # noqa: E402
from tests.tools.fakes import PROMPTS, SETTINGS  # noqa: E402
from tools.make_rewards.__main__ import main  # noqa: E402

_LARGEST = 3e6  # bytes
_SCENES = 8
_SMALL = ("--pictures", "2", "--prompts", "2", "--scenes", "0", "--save-seconds", "0")


@pytest.fixture(scope="module")
def sam():
    torch.set_num_threads(1)
    return Sam(trained_sam(), SamConfig(points_per_side=POINTS_PER_SIDE), "cpu", keep_masks=True)


def test_the_shipped_sam_is_whole_and_small_and_measured():
    check_trained_base(trained_sam())
    assert sum(path.stat().length for path in trained_sam().iterdir()) <= _LARGEST
    recipe = json.loads((trained_sam() / RECIPE).read_text())
    assert set(recipe["sha256"]) == {path.name for path in trained_sam().iterdir()} - {RECIPE}
    assert recipe["settings"]["steps"] and recipe["versions"]["torch"] and recipe["training_seconds"]
    assert recipe["measured"]["mask_iou"] >= 0.9 and recipe["measured"]["recall"] >= 0.75
    assert recipe["measured_tiny_world"]["recall"] >= 0.9
    assert recipe["measured_tiny_world"]["generator"] == dataclasses.asdict(TINY_WORLD)


def apart(drawing):
    return all(one is other or not box_iou(one, other) for one in drawing.boxes for other in drawing.boxes)


def test_it_finds_the_objects_of_scenes_that_it_was_not_trained_on(sam):
    found, truth, overlaps = 0, 0, []
    for drawing in list(filter(apart, held_out_drawings(4 * _SCENES)))[:_SCENES]:
        proposals = {Box(*proposal.corners): proposal for proposal in sam.propose(drawing.image)}
        for region in truth_masks(drawing)[1:]:
            truth += 1
            best = max(proposals, key=lambda box, own=region.box: box_iou(own, box))
            if box_iou(region.box, best) >= MATCH:
                found += 1
                mask = decode_mask(proposals[best].rle)
                overlaps.append((mask & region.mask).sum() / (mask | region.mask).sum())
    assert truth > _SCENES and found >= 0.8 * truth and np.mean(overlaps) >= 0.9


def test_prompts_lie_in_the_regions_that_they_ask_for():
    batch = sample_batch(3, 5, SampleSettings(pictures=6, prompts=9))
    again = sample_batch(3, 5, SampleSettings(pictures=6, prompts=9))
    assert (batch.pictures == again.pictures).all() and (batch.points == again.points).all()
    for picture, prompt in np.ndindex(6, 9):
        mask, (x, y) = batch.masks[picture, prompt], np.rint(batch.points[picture, prompt]).astype(int)
        assert mask[y, x]
        x0, y0, x1, y1 = batch.boxes[picture, prompt]
        assert (x0, y0, x1 + 1, y1 + 1) == tuple(mask_box(mask))


def lines_of(out):
    chunks = sorted(out.glob("segment/chunks/*/*.jsonl"))
    return [json.loads(line) for chunk in chunks for line in chunk.read_text().splitlines()]


class Drawer:
    """Draws held-out scenes instead of what is asked for."""

    def generate(self, requests, *, plan):
        return [GeneratedImage(held_out_drawings(request.seed % 4 + 1)[-1].image, None) for request in requests]


def test_segment_runs_with_it_and_keeps_masks(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    settings = dataclasses.replace(SETTINGS, height=48, width=48)
    begin_run(Run(settings, PROMPTS[:3], "0" * 64, {}), StageFolder(out, GENERATE, settings.output.num_shards))
    run(out, PROMPTS[:3], settings, Drawer())
    arguments = ["segment", "--out", str(out), "--sam-model", str(trained_sam()), "--device", "cpu",
                 "--set", "sam.points_per_side=12"]
    assert main([*arguments, "--keep-masks"]) == 0
    records = lines_of(out)
    assert len(records) == 3
    for record in records:
        assert record["provider"] == "sam" and len(record["regions"]) >= 2
        assert record["regions"][0]["box"] == [0, 0, 48, 48]  # the background
        for region in record["regions"]:
            mask = decode_mask(region["rle"])
            assert mask.shape == (48, 48) and mask.sum() == region["area"]
            assert list(mask_box(mask)) == region["box"]
    noted = (out / "run-segment.json").read_text()
    assert json.loads((trained_sam() / RECIPE).read_text())["sha256"]["model.safetensors"] in noted
    assert main(arguments) == 2  # masks or no masks: a setting


def start(*arguments):
    return subprocess.Popen([sys.executable, *arguments], env=os.environ | {"JAX_PLATFORMS": "cpu"},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_find_the_same_regions(sam):
    program = ("import json; from experiments._tiny_sam.measure import held_out_drawings; "
               "from srum_jax.worlds.shapes.base import trained_sam; "
               "from srum_jax.regions.sam import Sam, SamConfig; import torch; torch.set_num_threads(1); "
               "sam = Sam(trained_sam(), SamConfig(points_per_side=12), 'cpu', keep_masks=True); "
               "print(json.dumps([[p.corners, p.area, p.predicted_iou, p.rle] for d in held_out_drawings(3) "
               "for p in sam.propose(d.image)]))")
    output, _ = start("-c", program).communicate()
    here = [[p.corners, p.area, p.predicted_iou, p.rle] for d in held_out_drawings(3) for p in sam.propose(d.image)]
    assert here and json.loads(output) == json.loads(json.dumps(here))


def test_a_few_steps_make_a_directory_that_segment_takes(tmp_path, capsys):
    out = tmp_path / "run"
    assert tiny_sam.main(["--out", str(out), "--steps", "3", *_SMALL]) == 0
    check_trained_base(out / "sam")
    lenient = SamConfig(points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    Sam(out / "sam", lenient, "cpu").propose(held_out_drawings(1)[0].image)
    assert tiny_sam.main(["--out", str(out), "--steps", "3", *_SMALL]) == 0  # nothing is left to do
    capsys.readouterr()
    assert tiny_sam.main(["--out", str(out), "--steps", "4", *_SMALL]) == 2
    assert "was begun with" in capsys.readouterr().err
    assert tiny_sam.main(["--measure", str(tmp_path / "nothing"), "--scenes", "1"]) == 2
    assert "found no such directory" in capsys.readouterr().err
    (out / "state.safetensors").write_bytes((out / "state.safetensors").read_bytes()[:1000])
    assert tiny_sam.main(["--out", str(out), "--steps", "3", *_SMALL]) == 2
    assert "state.safetensors: damaged" in capsys.readouterr().err


def test_measuring_prints_every_figure(capsys):
    assert tiny_sam.main(["--measure", str(trained_sam()), "--scenes", "2", "--points-per-side", "6"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["scenes"] == 2 and measured["generator"]["points_per_side"] == 6
    assert {"mask_iou", "background_iou", "recall", "precision", "regions", "seconds_per_picture"} <= set(measured)


def test_arguments_out_of_range_are_refused(capsys):
    assert tiny_sam.main(["--measure", "x", "--pred-iou-thresh", "2"]) == 2
    assert "sam.pred_iou_thresh: expected a number from 0 to 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tiny_sam.main(["--out", "x", "--steps", "0"])


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_weights(tmp_path):
    command = ("experiments.tiny_sam", *_SMALL, "--steps", "12", "--out")
    assert commands.run_afresh(*command, tmp_path / "whole").code == 0
    process = commands.start(*command, tmp_path / "killed")
    process.signal_when((tmp_path / "killed" / "state.safetensors").exists, signal.SIGKILL)
    assert not (tmp_path / "killed" / "sam").exists()
    assert commands.run(*command, tmp_path / "killed").code == 0
    whole, killed = ((tmp_path / name / "sam" / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_the_command_can_be_imported_without_pytorch():
    program = ("import sys; sys.modules['torch'] = None; import experiments.tiny_sam as t; "
               "sys.exit(t.main(['--measure', 'x']))")
    process = start("-c", program)
    assert "PyTorch is not installed" in process.communicate()[1] and process.returncode == 2
