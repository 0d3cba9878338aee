"""From sums on devices to the numbers that are logged."""

import math

import jax

from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.training.step import StepMetrics

_NORMS = ("gradient_norm", "parameter_norm", "update_norm")


class MetricsWindow:
    """Collects the metrics of several steps; means are taken over all their tokens, norms over steps."""

    def __init__(self):
        self._steps: list[StepMetrics] = []

    def add(self, metrics: StepMetrics) -> None:
        """Takes one step's metrics, already on the host."""
        self._steps.append(metrics)

    def __len__(self) -> int:
        return len(self._steps)

    def summary(self) -> dict[str, float]:
        """Every metric by name; empties the window. Losses and shares of nothing are left out."""
        steps, self._steps = self._steps, []
        values = {"loss/total": sum(float(s.loss) for s in steps) / len(steps)}
        values |= {f"norm/{name.removesuffix('_norm')}": sum(float(getattr(s, name)) for s in steps) / len(steps)
                   for name in _NORMS}
        merged = jax.tree.map(lambda *parts: sum(map(float, parts)), *(s.sums for s in steps))
        for name, total in merged.items():
            if name.startswith("tokens/") and name != "tokens/padding":
                values[name] = total.total / len(steps)
            elif total.weight > 0:
                values[name] = total.total / total.weight
        return _with_spread(values, merged)


def _with_spread(values: dict[str, float], merged: dict[str, WeightedSum]) -> dict[str, float]:
    square = values.pop("reward/map_square", None)
    if square is not None:
        values["reward/map_spread"] = math.sqrt(max(square - values["reward/map_mean"] ** 2, 0.0))
    if "tokens/padding" in merged:
        values["tokens/padding_share"] = values.pop("tokens/padding")
    return values


def is_finite(metrics: StepMetrics) -> bool:
    """Whether loss and gradient of a step are numbers."""
    return math.isfinite(float(metrics.loss)) and math.isfinite(float(metrics.gradient_norm))
