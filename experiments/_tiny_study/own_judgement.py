"""What a model thought of its own candidates, against the oracle, and what that leaves in the loss."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from experiments._tiny_bases.measure import area_under_curve
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.table import markdown
from experiments._tiny_think.plans import PlanError, parse_plan
from srum_jax.data.example_proto import decode_record
from srum_jax.data.image_transform import decode_image
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.schema import RewardRecord
from srum_jax.rewards.reward_map import RewardMapConfig, reward_map
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.questions import SCORE_LEVELS
from srum_jax.worlds.shapes.scene import CATEGORIES

_MAPS = {"paper": RewardMapConfig.paper(), "official": RewardMapConfig.official()}


@dataclasses.dataclass(frozen=True)
class OwnJudgement:
    """Of all records of a round."""

    records: int
    fit: float  # share that the oracle finds right
    said: float  # share that the judge finds right
    precision: float  # of those, the share that the oracle finds right
    auc: float  # of the judge's score of the whole
    region_auc: float  # of its scores of regions, among those that the oracle sees too
    weights: dict[str, tuple[float, float]]  # mean of alpha * R, for pictures that fit and for those that do not
    by_category: dict[str, tuple[float, float, float]]  # shares that fit before and after the judge's choice; the AUC


def judgement_table(path: epath.Path, rounds: Mapping[str, epath.Path], grid: tuple[int, int]) -> str:
    """Two tables with a row per round: all records, and by category.

    Args:
      path: a file that keeps what was measured.
      rounds: by name, folders of `tools.make_rewards run`.
      grid: image tokens of a picture, down and across.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    for name, folder in rounds.items():
        if name not in kept:
            kept[name] = dataclasses.asdict(own_judgement(folder, grid))
            write_json(path, kept)
    rows = [["its own candidates", "records", "right, %", "called right, %", "of these right, %", "AUC, %",
             "AUC of regions, %", *(f"mean weight, {name}: right / wrong" for name in _MAPS)]]
    for name in rounds:
        found: dict[str, Any] = kept[name]
        shares = [f"{100 * found[field]:.1f}" for field in ("fit", "said", "precision", "auc", "region_auc")]
        weights = ["{:.3f} / {:.3f}".format(*found["weights"][name]) for name in _MAPS]
        rows.append([name, str(found["records"]), *shares, *weights])
    categories = [["right, % / of those called right, % / AUC, %", *CATEGORIES]]
    for name in rounds:
        cells = (kept[name]["by_category"].get(category) for category in CATEGORIES)
        categories.append([name, *("none" if cell is None else " / ".join(f"{100 * value:.0f}" for value in cell)
                                   for cell in cells)])
    return f"{markdown(rows)}\n\n{markdown(categories)}"


def own_judgement(folder: epath.Path, grid: tuple[int, int]) -> OwnJudgement:
    """Compares all records of a run with the oracle."""
    fits, scores, categories, region_fits, region_scores = [], [], [], [], []
    weights = {name: [] for name in _MAPS}
    for record in read_records(folder):
        truth = judge_image(record.prompt, np.asarray(decode_image(record.image_encoded)))
        fits.append(truth.correct)
        scores.append(record.global_score)
        categories.append(record.category)
        seen = {tuple(region.box): region.score for region in truth.regions}
        for region in record.regions:
            if region.score is not None and (box := _nearest(tuple(region.box), seen)) is not None:
                region_fits.append(seen[box] >= 1.0)
                region_scores.append(region.score)
        for name, config in _MAPS.items():
            painted = reward_map([(region.box, region.score) for region in record.regions], record.global_score,
                                 width=record.image_width, height=record.image_height, grid=grid, config=config,
                                 provider=record.provider)
            weights[name].append(float(painted.weight.mean()))
    fits, scores, categories = np.array(fits), np.array(scores), np.array(categories)
    said = scores >= SCORE_LEVELS[-1]
    own = {category: categories == category for category in CATEGORIES if category in categories}
    return OwnJudgement(
        records=len(fits), fit=float(fits.mean()), said=float(said.mean()),
        precision=_mean(fits[said]), auc=area_under_curve(scores, fits),
        region_auc=area_under_curve(np.array(region_scores), np.array(region_fits)),
        weights={name: (_mean(np.array(values)[fits]), _mean(np.array(values)[~fits]))
                 for name, values in weights.items()},
        by_category={category: (_mean(fits[chosen]), _mean(fits[chosen & said]),
                                area_under_curve(scores[chosen], fits[chosen])) for category, chosen in own.items()},
    )


def require_plans(folder: epath.Path) -> None:
    """Makes sure that the model that drew has planned.

    Args:
      folder: of a run of `tools.make_rewards run` in think mode.

    Raises:
      SettingsError: fewer than half of its plans can be read.
    """
    readable = [_is_plan(record.think_text) for record in read_records(folder)]
    if 2 * sum(readable) < len(readable):
        raise SettingsError(f"--think: expected a base that plans what it draws, found {sum(readable)} of "
                            f"{len(readable)} plans that can be read (in {folder}); python -m experiments.tiny_think "
                            "makes one.")


def _is_plan(text: str | None) -> bool:
    try:
        return text is not None and bool(parse_plan(text))
    except PlanError:
        return False


def read_records(folder: epath.Path) -> Iterator[RewardRecord]:
    """All records of a run, or of a directory of records."""
    source = RecordsSource(folder)
    for place in range(len(source)):
        yield decode_record(source.read(place))


def _nearest(box: tuple[int, ...], seen: Mapping[tuple[int, ...], float]) -> tuple[int, ...] | None:
    """The oracle's box that is nearest, if every side is within two pixels."""
    apart = {other: max(abs(a - b) for a, b in zip(box, other, strict=True)) for other in seen}
    nearest = min(apart, key=apart.__getitem__, default=None)
    return nearest if nearest is not None and apart[nearest] <= 2 else None


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
