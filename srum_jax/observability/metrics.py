"""From sums on devices to the numbers that are logged."""

import math
from collections.abc import Mapping

from srum_jax.training.step import StepMetrics

_NORMS = ("gradient_norm", "parameter_norm", "update_norm")


class MetricsWindow:
    """Adds up the metrics of several steps; means are taken over all their tokens, norms over steps.

    Its state goes into checkpoints: a run that is resumed between two log lines writes the same next line as one that
    was never stopped.
    """

    def __init__(self):
        self._num_steps = 0
        self._values: dict[str, float] = {}  # sums over steps
        self._sums: dict[str, list[float]] = {}  # total and weight, over tokens

    def __len__(self) -> int:
        return self._num_steps

    def add(self, metrics: StepMetrics, drawn: Mapping[str, tuple[float, float]] | None = None) -> None:
        """Takes one step's metrics, already on the host, and what its source says of the batch."""
        self._num_steps += 1
        values = {"loss/total": metrics.loss}
        values |= {f"norm/{name.removesuffix('_norm')}": getattr(metrics, name) for name in _NORMS}
        for name, value in values.items():
            self._values[name] = self._values.get(name, 0.0) + float(value)
        sums = {name: (float(part.total), float(part.weight)) for name, part in metrics.sums.items()}
        for name, part in (sums | dict(drawn or {})).items():
            self._sums[name] = [old + new for old, new in zip(self._sums.get(name, (0.0, 0.0)), part, strict=True)]

    def summary(self) -> dict[str, float]:
        """Every metric by name; empties the window. Losses and shares of nothing are left out."""
        values = {name: total / self._num_steps for name, total in self._values.items()}
        for name, (total, weight) in self._sums.items():
            if name.startswith("tokens/") and name != "tokens/padding":
                values[name] = total / self._num_steps
            elif weight > 0:
                values[name] = total / weight
        self.__init__()
        return _with_derived(values)

    def get_state(self) -> Mapping:
        """A small dict, fit for JSON."""
        return {"num_steps": self._num_steps, "values": dict(self._values), "sums": dict(self._sums)}

    def set_state(self, state: Mapping) -> None:
        """Goes on from where `get_state` was taken."""
        self._num_steps, self._values, self._sums = state["num_steps"], dict(state["values"]), dict(state["sums"])


def _with_derived(values: dict[str, float]) -> dict[str, float]:
    """Adds the spread of R, and names the share of padding as such."""
    square = values.pop("reward/map_square", None)
    if square is not None:
        values["reward/map_spread"] = math.sqrt(max(square - values["reward/map_mean"] ** 2, 0.0))
    if "tokens/padding" in values:
        values["tokens/padding_share"] = values.pop("tokens/padding")
    return values


def is_finite(metrics: StepMetrics) -> bool:
    """Whether loss, gradient and update of a step are numbers; the update is what a checkpoint would keep."""
    return all(math.isfinite(float(value)) for value in (metrics.loss, metrics.gradient_norm, metrics.update_norm))
