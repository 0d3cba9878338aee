"""The whole loop on a very small Janus-Pro, through the commands: pictures, scores, records, training, and the trained
weights as a published checkpoint."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.families.registry import recognise
from srum_jax.inference.requests import Answer
from tests import commands
from tests.e2e.training import lines as logged
from tests.families.janus_pro import tiny_checkpoint
from tests.tools.fakes import GOOD, exported, lines
from tools.make_rewards import own_model
from tools.make_rewards.__main__ import main
from tools.make_rewards.run import run_share
from tools.make_rewards.runners import local

PROMPTS = ["a red circle left of a blue square", "two green triangles", "a yellow ring", "a blue cross"]
SIDE = tiny_checkpoint.PICTURE_SIDE
LEARNT = ("language_model.model.", "gen_embed.", "gen_aligner.", "gen_head.")


class Scripted:
    """A judge that is pleased with everything."""

    def answer(self, questions, *, sampler, think, allow_non_finite):
        return [Answer(text, None, False, 9, text) for text in map(self._reply, questions)]

    def _reply(self, question):
        text = question.prompt
        kind = ("sample" if "IMPRESSION" in text else "global" if "KEYWORD" not in text else
                "local" if "SCORE" in text else "identify")
        return GOOD[kind]


@pytest.mark.slow
def test_pictures_scores_records_training_and_export(tmp_path, monkeypatch):
    checkpoint = tiny_checkpoint.write(tmp_path / "published")
    rewards, work = tmp_path / "rewards", tmp_path / "work"
    monkeypatch.setattr(own_model, "answerer", lambda arguments, think: Scripted())
    monkeypatch.setattr(local, "run_stage", run_share)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    assert main([
        "run", "--experiment", "janus_pro_srum", "--out", str(rewards), "--checkpoint", str(checkpoint),
        "--prompts", str(tmp_path / "prompts.txt"), "--set", "generate.prompt_format=plain",
        "--set", "segment.provider=components",
        *(word for stage in ("generate", "judge") for word in ("--set", f"{stage}.dtype=float32")),
        "--set", "generate.batch_size=4", "--set", "output.num_shards=1", "--set", "export.num_record_shards=1",
    ]) == 0
    drawn = lines(rewards, "generate")
    assert {(line["height"], line["width"]) for line in drawn.values()} == {(SIDE, SIDE)}
    assert len(exported(rewards)) == len(PROMPTS)

    code, out, err = commands.run(
        "srum_jax.train", "--experiment=janus_pro_srum", "--workdir", work, *(f"--set={setting}" for setting in (
            f"model.checkpoint={checkpoint}", f"data.records={rewards / 'export'}", "data.rows_per_batch=2",
            "data.num_workers=0", "data.text_dropout=0", "rows.text_capacity=32", "compute.dtype=float32",
            "compute.remat=none", "mesh.data=1", "mesh.fsdp=1", "optimizer.learning_rate=0.003",
            "optimizer.warmup_steps=1", "training.steps=12", "training.save_every=12", "training.log_every=1")))
    assert code == 0, out + err
    losses = [line["loss/total"] for line in logged(work)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])

    code, out, err = commands.run("tools.convert_weights", "export", "--checkpoint", work, "--template", checkpoint,
                                  "--out", tmp_path / "exported")
    assert code == 0, out + err
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "exported"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert before.keys() == after.keys() and recognise(tmp_path / "exported") == "janus_pro"
    assert {part for part in LEARNT for name in changed if name.startswith(part)} == {*LEARNT}
    assert all(name.startswith(LEARNT) for name in changed)
    code, out, err = commands.run("tools.convert_weights", "import", "--source", tmp_path / "exported",
                                  "--out", tmp_path / "converted")
    assert code == 0, out + err
    # Converted weights draw, and the command goes on where it was.
    generate = ["--checkpoint", tmp_path / "converted", "--dtype=float32", "--prompt", PROMPTS[0],
                "--set", "sampler.guidance=2", "--out", tmp_path / "again"]
    for written in ("1", "0"):
        code, out, err = commands.run("srum_jax.generate", *generate)
        assert code == 0, out + err
        assert re.search(r"written now +(\d+)", out)[1] == written
