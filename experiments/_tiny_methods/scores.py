"""Files of scores that candidates are chosen by, one line a record, as `make_rewards select` reads them."""

import collections
import json
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_bases.measure import load_tiny
from experiments._tiny_methods.arms import LIKELIHOOD, ORACLE, PROBABILITY, RANDOM
from experiments._tiny_study.own_judgement import read_records
from experiments._tiny_study.steps import must_succeed
from srum_jax.data.image_transform import decode_image
from srum_jax.data.schema import RewardRecord
from srum_jax.judges.yes_or_no import YesOrNo
from srum_jax.rewards.groups import relative_scores
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.storage.atomic_file import write_text
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.questions import JUDGE_TEMPLATES, SEEN_QUESTION, whole_question
from tools.make_rewards.__main__ import main as make_rewards

_BATCH = 320  # answers scored together: 64 pictures, five answers each
_SEED = 5


def score_file(folder: epath.Path, kind: str, judge: epath.PathLike) -> epath.Path:
    """Scores of all records of a run, made unless they are there.

    Args:
      folder: of a run of `make_rewards`.
      kind: of `arms.SCORES`.
      judge: checkpoint that answers.
    """
    path = folder / "scores" / f"{kind}.jsonl"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        records = list(read_records(folder))
        scores = _KINDS[kind](folder, records, judge)
        write_text(path, "".join(json.dumps({"record_id": record.record_id, "score": score}) + "\n"
                                 for record, score in zip(records, scores, strict=True)))
    return path


def read_scores(path: epath.Path) -> dict[str, float]:
    """By record id."""
    return {line["record_id"]: line["score"] for line in map(json.loads, path.read_text().splitlines())}


def _probability(folder: epath.Path, records: Sequence[RewardRecord], judge: epath.PathLike) -> list[float]:
    """How likely the model answers that the picture fits, against all other answers, from -1 to 1."""
    template = JudgeTemplates.read(JUDGE_TEMPLATES)["question"]
    asked = [(_pixels(record), whole_question(record.prompt), template) for record in records]
    return [2 * value - 1 for value in YesOrNo(load_tiny(judge).scorer, _BATCH).probabilities(asked)]


def _likelihood(folder: epath.Path, records: Sequence[RewardRecord], judge: epath.PathLike) -> list[float]:
    """SUDER's R_G by the command that users run, relative to the other candidates of its prompt."""
    must_succeed(make_rewards, ["likelihood", "--out", os.fspath(folder), "--checkpoint", os.fspath(judge),
                                "--dtype", "float32", "--attention", "dense", "--batch-size", "64",
                                "--request", SEEN_QUESTION])
    found = {line["record_id"]: line["log_prob"] for path in sorted(folder.glob("likelihood/chunks/*/*.jsonl"))
             for line in map(json.loads, path.read_text().splitlines())}
    groups: Mapping[int, list[RewardRecord]] = collections.defaultdict(list)
    for record in records:
        groups[record.index].append(record)
    scores = {}
    for group in groups.values():
        relative = relative_scores([found[record.record_id] for record in group])
        scores |= dict(zip((record.record_id for record in group), relative, strict=True))
    return [scores[record.record_id] for record in records]


def _oracle(folder: epath.Path, records: Sequence[RewardRecord], judge: epath.PathLike) -> list[float]:
    """1 where a picture shows all that was asked for and nothing else, less everywhere else."""
    judged = [judge_image(record.prompt, _pixels(record)) for record in records]
    return [1.0 if one.correct else min(float(one.global_score), 0.99) for one in judged]


def _random(folder: epath.Path, records: Sequence[RewardRecord], judge: epath.PathLike) -> list[float]:
    return np.random.default_rng(_SEED).uniform(-1, 1, len(records)).tolist()


def _pixels(record: RewardRecord) -> np.ndarray:
    return np.asarray(decode_image(record.image_encoded))


_KINDS: Mapping[str, Callable[[epath.Path, Sequence[RewardRecord], epath.PathLike], list[float]]] = {
    PROBABILITY: _probability, LIKELIHOOD: _likelihood, ORACLE: _oracle, RANDOM: _random,
}
