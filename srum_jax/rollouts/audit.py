"""A look from outside: fixed inputs, drawn for with the present weights and scored by the initial model.

A model that learns to please itself raises its own reward while the initial model's falls. All that is drawn here is
drawn under the same seeds each time, so that differences between audits are differences between the weights.
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from etils import epath

from srum_jax.generation.image_store import encode_image
from srum_jax.observability.tensorboard_events import shown
from srum_jax.rollouts.candidates import Group, Models, groups_of
from srum_jax.rollouts.config import GENERATION, UNDERSTANDING, RolloutConfig
from srum_jax.rollouts.inputs import Inputs
from srum_jax.rollouts.statistics import Sums
from srum_jax.storage.atomic_file import write_bytes, write_text

_MEMBERS = 2  # outputs of an input
_LIMIT = 3.0  # standard errors below 0 that are no accident


@dataclasses.dataclass(frozen=True)
class Fall:
    """How far the initial model's reward has fallen since the first audit."""

    direction: str
    mean: float  # negative
    error: float  # its standard error over inputs


class Audits:
    """Those of one run."""

    def __init__(self, workdir: epath.Path, inputs: Inputs, config: RolloutConfig, seed: int):
        """Chooses the inputs.

        Args:
          workdir: of the run; pictures and captions go into `audit/round_N/` and `tensorboard/audit/`.
          inputs: of the run.
          config: of the rounds.
          seed: of the run.
        """
        self._workdir, self._inputs, self._seed = workdir, inputs, seed
        self._config = dataclasses.replace(config, group_size=_MEMBERS)
        self._first: dict[str, list[float]] = {}
        self._chosen = {direction: _spread(len(given), config.audit_inputs) for direction, given in
                        ((GENERATION, inputs.prompts), (UNDERSTANDING, inputs.pictures)) if config.draws(direction)}

    def get_state(self) -> dict[str, Any]:
        """The first audit's rewards by input, fit for JSON."""
        return {direction: list(values) for direction, values in self._first.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was taken."""
        self._first = {direction: list(values) for direction, values in state.items()}

    def due(self, number: int) -> bool:
        """Whether an audit precedes this round."""
        return bool(self._config.audit_every) and number % self._config.audit_every == 0

    def run(self, number: int, models: Models) -> tuple[Sums, list[Fall]]:
        """Draws, scores and stores.

        Args:
          number: of the round that follows.
          models: of the present weights, with the initial model as the scorer.

        Returns:
          What is to be logged, and the directions in which the reward has clearly fallen.
        """
        sums, falls = {}, []
        for direction, chosen in self._chosen.items():
            groups = groups_of(direction, chosen, "audit", models, self._inputs, self._config, self._seed, {})
            if jax.process_index() == 0:
                self._store(number, groups)
            rewards = np.array([np.mean(group.rewards[group.valid]) if group.valid.any() else np.nan
                                for group in groups])
            change = rewards - np.array(self._first.setdefault(direction, rewards.tolist()))
            for name, values in (("reward", rewards), ("change", change)):
                counted = values[np.isfinite(values)]
                sums[f"audit/{direction}_{name}"] = (float(counted.sum()), float(len(counted)))
            if (found := mean_and_error(change)) is not None:
                sums[f"audit/{direction}_change_error"] = (found[1], 1.0)
                falls += [Fall(direction, *found)] if found[0] < -_LIMIT * found[1] else []
        return sums, falls

    def _store(self, number: int, groups: list[Group]) -> None:
        folder, lines = self._workdir / "audit" / f"round_{number:05d}", []
        folder.mkdir(parents=True, exist_ok=True)
        pictures, texts = {}, {}  # for TensorBoard
        for place, group in enumerate(groups):
            tag = f"{group.direction}/{place:03d}"
            rewards = ", ".join(f"{reward:.4g}" for reward in group.rewards)
            # JSON has no number that is none.
            told = {"input": group.name, "rewards": [None if np.isnan(r) else float(r) for r in group.rewards]}
            if group.direction == GENERATION:
                names = [f"{place:03d}_{member}.png" for member in range(len(group.outputs))]
                for name, pixels in zip(names, group.outputs, strict=True):
                    write_bytes(folder / name, encode_image(pixels, "png", {"prompt": group.source}))
                told |= {"prompt": group.source, "pictures": names}
                pictures[tag], texts[tag] = np.concatenate(group.outputs, axis=1), group.source
            else:
                told |= {"captions": list(group.outputs)}
                pictures[tag], texts[tag] = group.source, "\n\n".join(group.outputs)
            texts[tag] += f"\n\n({rewards})"
            lines.append(json.dumps(told, ensure_ascii=False) + "\n")
        direction = groups[0].direction
        write_text(folder / f"{direction}.jsonl", "".join(lines))
        # A file of its own, in the order of the rounds: an audit that is repeated replaces it.
        events = self._workdir / "tensorboard" / "audit" / f"events.out.tfevents.{number:010d}.{direction}"
        events.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(events, shown(number * self._config.steps_per_round, pictures, texts))


def mean_and_error(change: np.ndarray) -> tuple[float, float] | None:
    """The mean of the changes of all inputs and its standard error; None of fewer than four inputs.

    Args:
      change: of the reward of each input, float64 [N]; those that are no number do not count.
    """
    change = change[np.isfinite(change)]
    return None if len(change) < 4 else (float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change))))


def _spread(count: int, wanted: int) -> list[int]:
    """Numbers of inputs, evenly over all: neighbours are often alike."""
    return sorted({n * count // min(wanted, count) for n in range(min(wanted, count))})
