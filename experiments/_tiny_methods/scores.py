"""Files of scores that candidates are chosen by, one line a record, as `make_rewards select` reads them."""

import collections
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_bases.measure import load_tiny
from experiments._tiny_methods.arms import LIKELIHOOD, ORACLE, PROBABILITY, RANDOM
from experiments._tiny_study.own_judgement import read_records
from srum_jax.data.image_transform import decode_image
from srum_jax.data.schema import RewardRecord
from srum_jax.inference.requests import Question
from srum_jax.judges.yes_or_no import YesOrNo
from srum_jax.rewards.groups import relative_scores
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.storage.atomic_file import write_text
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.questions import JUDGE_TEMPLATES, SEEN_QUESTION, whole_question

_PICTURES = 64  # scored together
_ANSWERS = 5  # to one question about a picture
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
    return [2 * value - 1 for value in YesOrNo(load_tiny(judge).scorer, _PICTURES * _ANSWERS).probabilities(asked)]


def _likelihood(folder: epath.Path, records: Sequence[RewardRecord], judge: epath.PathLike) -> list[float]:
    """SUDER's R_G, relative to the other candidates of its prompt.

    Not by `make_rewards likelihood`: what a stage leaves in the folder becomes part of what its export is held to.
    """
    scorer = load_tiny(judge).scorer
    found: list[float] = []
    for first in range(0, len(records), _PICTURES):
        batch = records[first : first + _PICTURES]
        filled = [*batch, *[batch[0]] * (_PICTURES - len(batch))]  # every number of rows is another program to compile
        asked = [Question(SEEN_QUESTION, (_pixels(record),)) for record in filled]
        found += scorer.texts(asked, [record.prompt for record in filled])[: len(batch)].tolist()
    groups: Mapping[int, list[int]] = collections.defaultdict(list)
    for place, record in enumerate(records):
        groups[record.index].append(place)
    scores = dict[int, float]()
    for places in groups.values():
        scores |= zip(places, relative_scores([found[place] for place in places]), strict=True)
    return [scores[place] for place in range(len(records))]


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
