"""The whole loop on a very small BLIP3o, through the commands: pictures, regions by its own grounding, scores, records,
training, and the trained weights as a published checkpoint."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.families.registry import recognise
from srum_jax.inference.requests import Answer
from tests import commands
from tests.e2e.training import lines as logged
from tests.families.blip3o import tiny_checkpoint
from tests.tools.fakes import GOOD, exported, lines, summary
from tools.make_rewards import own_model
from tools.make_rewards.__main__ import main
from tools.make_rewards.run import run_share
from tools.make_rewards.runners import local

PROMPTS = ["a red circle left of a blue square", "two green triangles", "a yellow ring", "a blue cross"]
SIDE = tiny_checkpoint.PICTURE_SIDE
QUICK = ("--set", "sampler.features.num_steps=2", "--set", "sampler.pixels.num_steps=2")
# In pixels of the picture as it is read: 56 of these are the 64 that are stored.
BOXES = '[{"bbox_2d": [7, 14, 28, 49], "label": "a circle"}, {"bbox_2d": [0, 0, 56, 56], "label": "ground"}]'
GROUNDED = {
    PROMPTS[0]: [BOXES], PROMPTS[1]: [BOXES], PROMPTS[2]: ["I cannot see a ring.", BOXES],
    PROMPTS[3]: ['[{"bbox_2d": [70, 70, 90, 90], "label": "a cross"}]'],  # outside, however often it is asked
}


class Scripted:
    """Answers by what is asked."""

    def __init__(self):
        self.asked, self.sizes = [], set()

    def answer(self, questions, *, sampler, think, allow_non_finite):
        return [Answer(text, None, False, 9, text) for text in map(self._reply, questions)]

    def _reply(self, question):
        text = question.prompt
        self.asked.append(text)
        self.sizes.add(question.images[0].shape)
        if "bbox_2d" in text:
            replies = next(replies for prompt, replies in GROUNDED.items() if prompt in text)
            return replies[min("could not be read" in text, len(replies) - 1)]
        if "IMPRESSION" in text:
            return GOOD["sample"]
        if "KEYWORD" not in text:
            return GOOD["global"]
        return GOOD["local"] if "SCORE" in text else GOOD["identify"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint.write(tmp_path_factory.mktemp("published") / "blip3o", tied=True)


@pytest.mark.slow
def test_pictures_regions_scores_records_training_and_export(checkpoint, tmp_path, monkeypatch):
    scripted, rewards, work = Scripted(), tmp_path / "rewards", tmp_path / "work"
    monkeypatch.setattr(own_model, "answerer", lambda arguments, think: scripted)
    monkeypatch.setattr(local, "run_stage", run_share)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    assert main([
        "run", "--experiment", "blip3o", "--out", str(rewards), "--checkpoint", str(checkpoint),
        "--prompts", str(tmp_path / "prompts.txt"), "--set", "generate.prompt_format=plain",
        *(word for stage in ("generate", "segment", "judge") for word in ("--set", f"{stage}.dtype=float32")),
        "--set", "generate.batch_size=4", "--set", "output.num_shards=1", *QUICK,
        "--set", "export.num_record_shards=1",
    ]) == 0

    drawn, segmented = lines(rewards, "generate"), lines(rewards, "segment")
    assert {(line["height"], line["width"]) for line in drawn.values()} == {(SIDE, SIDE)}
    assert scripted.sizes == {(SIDE, SIDE, 3)}
    regions = [[region["box"] for region in line["regions"]] for line in segmented.values()]
    found = [[0, 0, SIDE, SIDE], [8, 16, 32, 56]]
    assert regions == [found, found, found, [[0, 0, SIDE, SIDE]]]
    assert next(iter(segmented.values()))["regions"][1]["label"] == "a circle"
    counted = summary(rewards, "segment")
    assert counted["flags"] == {"fallback_whole_image": 1} and counted["problems"] == {"not_json": 1}
    assert counted["regions_dropped"] == {"outside": 1}
    # The judge is told boxes in pixels of the picture as it reads it.
    assert any("Region 2: [7, 14, 28, 49]" in text for text in scripted.asked)
    assert main(["verify", str(rewards)]) == 0
    records = exported(rewards)
    assert {record.provider for record in records.values()} == {"grounding"} and len(records) == 4

    code, out, err = commands.run("srum_jax.train", "--experiment=blip3o", "--workdir", work, *(f"--set={setting}" for (
        setting) in (
        f"model.checkpoint={checkpoint}", f"data.records={rewards / 'export'}", "data.rows_per_batch=2",
        "data.num_workers=0", "data.text_dropout=0", "rows.text_capacity=64", "compute.dtype=float32",
        "compute.remat=none", "mesh.data=1", "mesh.fsdp=1", "optimizer.learning_rate=0.003",
        "optimizer.warmup_steps=1", "training.steps=16", "training.save_every=16", "training.log_every=1")))
    assert code == 0, out + err
    losses = [line["loss/total"] for line in logged(work)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])

    code, out, err = commands.run("tools.convert_weights", "export", "--checkpoint", work, "--template", checkpoint,
                                  "--out", tmp_path / "exported")
    assert code == 0, out + err
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "exported"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert before.keys() == after.keys() and recognise(tmp_path / "exported") == "blip3o"
    assert "model.latent_queries" in changed and "model.dit.model.patch_embedder.proj.weight" in changed
    assert all(name == "model.latent_queries" or name.startswith("model.dit.") for name in changed)
    code, out, err = commands.run("tools.convert_weights", "import", "--source", tmp_path / "exported",
                                  "--out", tmp_path / "converted")
    assert code == 0, out + err
    # Converted weights draw, and the command goes on where it was.
    generate = ["--checkpoint", tmp_path / "converted", "--dtype=float32", "--prompt", PROMPTS[0], *QUICK,
                "--out", tmp_path / "again", "--size", "32x48"]
    for written in ("1", "0"):
        code, out, err = commands.run("srum_jax.generate", *generate)
        assert code == 0, out + err
        assert re.search(r"written now +(\d+)", out)[1] == written
