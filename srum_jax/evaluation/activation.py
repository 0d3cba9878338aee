"""Average activation strength of neurons that serve one task (SRUM, equations 4 and 5, Algorithm 1, Figure 5).

A neuron is a channel of a layer's gated MLP; its value for a sample is the mean over the sample's tokens of what its
activation function gives (spec: evaluation, section 11). Clusters are found once, on the base model and calibration
samples, and are the same for all models that are compared. Nothing is kept of a sample but its share of the sums.

L layers · C channels · B samples of a batch · n neurons of a cluster
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath
from safetensors import SafetensorError

from srum_jax.errors import BadInput
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import write_bytes

UNDERSTANDING, GENERATION = TASKS = ("und", "gen")
NUM_NULL, LEVEL = 100, 0.95
_SEED = 0
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class ClusterRule:
    """When a neuron serves one task."""

    share: float = 0.02  # of a layer's neurons, at most
    least: float = 0.8  # selectivity: difference of means over the pooled standard deviation

    def __post_init__(self):
        if not (0 < self.share <= 1 and self.least > 0):
            raise BadInput(f"clusters: expected a share in (0, 1] and a positive least selectivity, found {self.share} "
                           f"and {self.least}.")


class NeuronSums:
    """Sums and sums of squares of every neuron over samples, in float64; the order of samples does not matter."""

    def __init__(self, num_layers: int, num_channels: int):
        """Begins with none."""
        self.count = 0
        self._sum = np.zeros((num_layers, num_channels))
        self._squares = np.zeros((num_layers, num_channels))

    def add(self, values: np.ndarray) -> None:
        """Adds samples.

        Args:
          values: [B, L, C], of each sample the mean over its tokens.

        Raises:
          ValueError: another shape, or a value that is not finite.
        """
        values = np.asarray(values, np.float64)
        if values.shape[1:] != self._sum.shape or values.ndim != 3:
            raise ValueError(f"values: expected [samples, {', '.join(map(str, self._sum.shape))}], found "
                             f"{list(values.shape)}.")
        if not np.isfinite(values).all():
            raise ValueError("values: expected finite numbers.")
        self.count += len(values)
        self._sum += values.sum(axis=0)
        self._squares += np.square(values).sum(axis=0)

    def __add__(self, other: "NeuronSums") -> "NeuronSums":
        total = NeuronSums(*self._sum.shape)
        total.count = self.count + other.count
        total._sum, total._squares = self._sum + other._sum, self._squares + other._squares
        return total

    def save(self, path: epath.PathLike) -> None:
        """Writes a safetensors file."""
        write_bytes(epath.Path(path), safetensors.numpy.save(
            {"sum": self._sum, "squares": self._squares, "count": np.array(self.count)}))

    @classmethod
    def load(cls, path: epath.PathLike) -> "NeuronSums":
        """The inverse of `save`.

        Raises:
          BadInput: it is no such file.
        """
        try:
            arrays = safetensors.numpy.load(object_store.read_bytes(epath.Path(path)))
            values, count = [arrays["sum"], arrays["squares"]], int(arrays["count"])
            found = cls(*values[0].shape)
            if values[1].shape != values[0].shape or count < 0 or not np.isfinite(values).all():
                raise ValueError("expected finite sums of one shape, and how many samples they are of")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: expected sums over neurons ({error}); it was changed: remove it.") from error
        found.count, (found._sum, found._squares) = count, values
        return found

    @property
    def mean(self) -> np.ndarray:
        """[L, C]."""
        return self._sum / max(self.count, 1)

    @property
    def variance(self) -> np.ndarray:
        """[L, C], of the samples."""
        return np.maximum(self._squares / max(self.count, 1) - np.square(self.mean), 0.0)


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Neurons that serve understanding, and neurons that serve generation.

    Attributes:
      neurons: by task, int32 [n, 2]: layer and channel, sorted.
      jaccard: by task, how alike two halves of the calibration samples choose, in [0, 1].
    """

    neurons: Mapping[str, np.ndarray]
    jaccard: Mapping[str, float]

    def sizes(self, task: str, num_layers: int) -> list[int]:
        """Neurons in each layer."""
        return np.bincount(self.neurons[task][:, 0], minlength=num_layers).tolist()

    def save(self, path: epath.PathLike, about: Mapping[str, Any]) -> None:
        """Writes a safetensors file.

        Args:
          path: of the file.
          about: the model's checksum, ids of samples, thresholds; plain JSON values.
        """
        metadata = {name: json.dumps(value) for name, value in about.items()} | {
            "jaccard": json.dumps(dict(self.jaccard))}
        write_bytes(epath.Path(path), safetensors.numpy.save(dict(self.neurons), metadata))


def half_of(sample_ids: Sequence[str]) -> np.ndarray:
    """Which of two random halves each sample is in, int [samples]; depends on the ids alone, not their order."""
    places = {name: place for place, name in enumerate(sorted(sample_ids))}
    halves = np.random.default_rng(_SEED).permutation(len(places)) % 2
    return np.array([halves[places[name]] for name in sample_ids])


def selectivity(understanding: NeuronSums, generation: NeuronSums) -> np.ndarray:
    """[L, C]: how much larger a neuron is in understanding, in pooled standard deviations."""
    spread = np.sqrt((understanding.variance + generation.variance) / 2 + _TINY)
    return (understanding.mean - generation.mean) / spread


def find_clusters(halves: Sequence[Mapping[str, NeuronSums]], rule: ClusterRule = ClusterRule()) -> Clusters:
    """The neurons that both halves of the calibration samples choose; each layer has at most a share of its own.

    Args:
      halves: two, each with sums by task.
      rule: when a neuron is chosen.

    Raises:
      BadInput: a cluster is empty; names the threshold.
    """
    chosen: dict[str, list[np.ndarray]] = {task: [] for task in TASKS}
    largest_found = dict.fromkeys(TASKS, -np.inf)
    for half in halves:
        by_neuron = selectivity(half[UNDERSTANDING], half[GENERATION])
        for task, strength in ((UNDERSTANDING, by_neuron), (GENERATION, -by_neuron)):
            largest_found[task] = max(largest_found[task], float(strength.max()))
            most = max(1, int(rule.share * strength.shape[1]))
            largest = np.argsort(-strength, axis=1, kind="stable")[:, :most]
            mask = np.zeros(strength.shape, bool)
            np.put_along_axis(mask, largest, True, axis=1)
            chosen[task].append(mask & (strength >= rule.least))
    neurons, jaccard = {}, {}
    for task, (first, second) in chosen.items():
        both, either = first & second, first | second
        if not both.any():
            raise BadInput(f"activation: no neuron is chosen for {task!r} by both halves of the calibration samples: "
                           f"expected a selectivity of at least {rule.least} (the largest is "
                           f"{largest_found[task]:.3f}) among the top {100 * rule.share:g} % of a layer; take more "
                           "samples, or a lower threshold.")
        neurons[task] = np.ascontiguousarray(np.argwhere(both), np.int32)  # argwhere's rows do not lie in a row
        jaccard[task] = float(both.sum() / either.sum())
    return Clusters(neurons, jaccard)


def strength(sums: NeuronSums, neurons: np.ndarray) -> float:
    """S_final: the mean over samples of the mean over a cluster, which is the mean of neurons' means.

    Args:
      sums: of a model on a data set.
      neurons: int [n, 2], layer and channel.
    """
    return float(sums.mean[neurons[:, 0], neurons[:, 1]].mean())


def standardised_strength(sums: NeuronSums, base: NeuronSums, neurons: np.ndarray) -> float:
    """As `strength`, of (a - mean) / deviation with those of the base model's pooled calibration samples."""
    values = (sums.mean - base.mean) / np.sqrt(base.variance + _TINY)
    return float(values[neurons[:, 0], neurons[:, 1]].mean())


def null_strength(sums: NeuronSums, neurons: np.ndarray) -> dict[str, float]:
    """What 100 random clusters of the same size in each layer give: mean, and the band that holds 95 percent."""
    rng = np.random.default_rng(_SEED)
    num_layers, num_channels = sums.mean.shape
    sizes = np.bincount(neurons[:, 0], minlength=num_layers)
    found = [np.concatenate([row[rng.choice(num_channels, size, replace=False)]
                             for row, size in zip(sums.mean, sizes, strict=True)]).mean() for _ in range(NUM_NULL)]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": float(np.mean(found)), "low": float(low), "high": float(high)}


def report(
    models: Mapping[str, Mapping[str, NeuronSums]], base: NeuronSums, clusters: Clusters
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """The numbers of Figure 5: by model, data set and cluster.

    Args:
      models: sums by task's data set, by model.
      base: of the base model's calibration samples, both tasks together.
      clusters: the same for all models.
    """
    return {
        model: {data: {cluster: {
            "strength": strength(sums, neurons), "standardised": standardised_strength(sums, base, neurons),
            "null": null_strength(sums, neurons), "samples": sums.count,
        } for cluster, neurons in clusters.neurons.items()} for data, sums in by_data.items()}
        for model, by_data in models.items()
    }
