"""How strongly the neurons of several models answer to two tasks, in one folder (spec: evaluation, section 11).

    evaluation.json  inputs/            samples and settings; the base model, with which the folder was begun
    models/<id>/model.json              a model that is compared
    models/<id>/<set>.safetensors       sums over its samples so far
    clusters.safetensors                neurons that serve one task, found on the base model
    activation.json  activation.svg     the numbers of Figure 5, and a plot of them

Samples stream: a batch adds to the sums, which are written, and nothing else is kept of it.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from srum_jax.data.errors import ImageError
from srum_jax.errors import BadInput, Failure, Incomplete
from srum_jax.evaluation.activation import (
    GENERATION,
    TASKS,
    UNDERSTANDING,
    ClusterRule,
    NeuronSums,
    find_clusters,
    half_of,
    report,
)
from srum_jax.evaluation.activation_samples import CALIBRATION, MEASURED, Sample, read_samples, split
from srum_jax.evaluation.folder import EvaluationFolder, Part, prompt_file_sha256
from srum_jax.evaluation.judging import read_image
from srum_jax.evaluation.line_chart import line_chart
from srum_jax.generation.prompts import record_seed
from srum_jax.inference.protocols import Answerer, Checker, Neurons
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.stages import noted
from srum_jax.stages.folder import create_once
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import write_bytes, write_json

NAME, PROTOCOL = "activation", "srum_jax-1"
UNDERSTANDING_EXPERT, ALL_EXPERTS = EXPERTS = ("understanding", "all")
_HALVES = (0, 1)
_BASE_SEED = 0  # a sample's noise follows from this and its id: the same for every model
_MODEL_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class ActivationConfig:
    """What is measured of a model's neurons, and on how much."""

    samples: int = 256  # of each task, to measure; as many others to find clusters
    answer_tokens: int = 64  # of the model's own greedy answer to a question, at most
    gated: bool = False  # whether a value is |silu(W_gate h) (W_up h)| instead of silu(W_gate h)
    # understanding: it sees tokens of both tasks; all: those too that make pictures, on some of the model's own
    experts: str = UNDERSTANDING_EXPERT
    plan_tokens: int = 0  # of the plan that the model writes behind a prompt, greedily, at most; 0: no plan
    clusters: ClusterRule = dataclasses.field(default_factory=ClusterRule)  # when a neuron serves one task

    def __post_init__(self):
        if self.samples < 2:
            raise BadInput(f"samples: expected at least 2, found {self.samples}.")
        if self.experts not in EXPERTS:
            raise BadInput(f"experts: expected one of {', '.join(EXPERTS)}, found {self.experts!r}.")
        TextSampler(max_tokens=self.answer_tokens)
        _ = self.plan

    @property
    def plan(self) -> TextSampler | None:
        """How plans are written."""
        return TextSampler(max_tokens=self.plan_tokens) if self.plan_tokens else None


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """A model of the folder.

    Attributes:
      id: what it is called in the results.
      checkpoint_sha256: of its weights.
    """

    id: str
    checkpoint_sha256: str

    def __post_init__(self):
        if not _MODEL_ID.fullmatch(self.id):
            raise BadInput(f"--model-id: expected letters, digits, dot, underscore and hyphen, found {self.id!r}.")


class ActivationRun:
    """The samples of a folder, and what was measured on them."""

    def __init__(self, root: epath.Path, files: Mapping[str, bytes] | None, config: ActivationConfig):
        """Reads the samples.

        Args:
          root: of the folder.
          files: see `read_samples`; None: those that the folder was begun with.
          config: what is measured.

        Raises:
          BadInput: they cannot be used.
        """
        self.folder, self.config = EvaluationFolder(root), config
        self.files = self.folder.inputs() if files is None else files
        self.samples = split(read_samples(self.files), config.samples)

    @classmethod
    def begun(cls, root: epath.Path, clusters: ClusterRule) -> "ActivationRun":
        """As the folder was begun, and with a rule for clusters.

        Raises:
          BadInput: it was not, or is another benchmark's.
        """
        about = EvaluationFolder(root).begun_with()
        if about.get("benchmark") != NAME:
            raise BadInput(f"--out {root}: expected a folder of {NAME}, found one of {about.get('benchmark')!r}.")
        others = ("dtype", "quantize", "drawn")
        settings = {name: value for name, value in about["settings"].items() if name not in others}
        return cls(root, None, ActivationConfig(**settings, clusters=clusters))

    def check(self, checker: Checker, images: epath.Path) -> str:
        """Whether every sample can be read; returns a checksum over all pictures.

        Raises:
          BadInput: a prompt or question that the model cannot be given.
          Incomplete: a picture is missing or unreadable.
        """
        for sample in self._all():
            try:
                checker.check(Question(sample.prompt) if sample.image else ImageRequest(sample.prompt, seed=0))
            except RequestError as error:
                raise BadInput(f"{sample.id}: {error}") from error
        digests, absent = {}, []
        for name in sorted({sample.image for sample in self._all()} - {""}):
            try:
                digests[name] = read_image(images / name)[1]
            except ImageError as error:
                absent.append(f"{name}: {error}")
        if absent:
            raise Incomplete(f"{NAME}: {len(absent)} of {len(absent) + len(digests)} pictures in {images} are missing "
                             f"or unreadable, the first of them {absent[0]}")
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()

    def begin(
        self, model: ComparedModel, precision: Mapping[str, str], pictures_sha256: str, *,
        drawn: Mapping[str, Any] | None = None, only_compare: bool = False,
    ) -> None:
        """Notes samples, settings and the base model, or compares them with what was noted.

        Args:
          model: that is to be measured.
          precision: that it computes with, as of `model_arguments.precision_of`.
          pictures_sha256: as `check` returns it.
          drawn: with which settings, where pictures of its own are looked at.
          only_compare: whether to write nothing.

        Raises:
          BadInput: the folder is another evaluation's, or its model of this id has other weights.
        """
        base = self.folder.begun_with().get("base") if self.folder.about.exists() else dataclasses.asdict(model)
        measured = {name: value for name, value in dataclasses.asdict(self.config).items() if name != "clusters"}
        note = noted.compare if only_compare else noted.note
        note(self.folder.about, {
            "benchmark": NAME, "protocol": PROTOCOL, "drawn_as": "", "part": dataclasses.asdict(Part()), "base": base,
            "prompt_files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.files.items())},
            "pictures_sha256": pictures_sha256, "settings": {**measured, **precision, "drawn": drawn}})
        note(self._folder_of(model.id) / "model.json", dataclasses.asdict(model))
        if not only_compare:
            for name, data in self.files.items():
                create_once(self.folder.root / "inputs" / name, data)

    def measure(self, model: ComparedModel, neurons: Neurons, answerer: Answerer, images: epath.Path,
                batch_size: int) -> None:
        """Streams the samples that the model has not seen yet; the base model's calibration samples first.

        Raises:
          Failure: a value is not a number; what was measured before is kept.
        """
        def values(batch: Sequence[Sample]) -> np.ndarray:
            if not batch[0].image:
                requests = [ImageRequest(sample.prompt, seed=record_seed(_BASE_SEED, sample.id)) for sample in batch]
                return neurons.drawing(requests, plan=self.config.plan, gated=self.config.gated)
            questions = [Question(sample.prompt, (read_image(images / sample.image)[0],)) for sample in batch]
            answers = answerer.answer(questions, sampler=TextSampler(max_tokens=self.config.answer_tokens))
            return neurons.answering(questions, [answer.text for answer in answers], gated=self.config.gated)

        for name, samples in self._sets(model.id).items():
            _stream(samples, self._sums(model.id, name), neurons.shape, values, batch_size, f"{model.id} {name}")

    def score(self) -> dict[str, Any]:
        """Finds the clusters, writes `clusters.safetensors`, `activation.json` and `activation.svg`; loads no model.

        Returns:
          The contents of `activation.json`.

        Raises:
          BadInput: a cluster is empty, or a file of sums is none.
          Incomplete: samples of a model are missing; only complete models are in the results.
        """
        about = self.folder.begun_with()
        base, found, missing, checkpoints = about["base"], {}, {}, {}
        for path in sorted((self.folder.root / "models").glob("*/model.json")):
            name = path.parent.name
            checkpoints[name] = noted.read(path)["checkpoint_sha256"]
            expected = {part: len(samples) for part, samples in self._sets(name).items()}
            there = {part: NeuronSums.load(self._sums(name, part)) for part in expected
                     if object_store.exists(self._sums(name, part))}
            lacking = {part: count - there[part].count if part in there else count for part, count in expected.items()}
            if any(lacking.values()):
                missing[name] = {part: count for part, count in lacking.items() if count}
            else:
                found[name] = there
        if base["id"] not in found:
            raise Incomplete(f"{NAME}: samples of the base model {base['id']} are missing, so there are no clusters: "
                             f"{missing.get(base['id'], 'all')}; give its command again")
        calibration = [{task: found[base["id"]][_name(CALIBRATION, task, half)] for task in TASKS} for half in _HALVES]
        clusters = find_clusters(calibration, self.config.clusters)
        pooled = sum((half[task] for half in calibration[1:] for task in TASKS),
                     calibration[0][UNDERSTANDING] + calibration[0][GENERATION])
        rule = dataclasses.asdict(self.config.clusters)
        clusters.save(self.folder.root / "clusters.safetensors", {
            "checkpoint_sha256": base["checkpoint_sha256"], **rule,
            "samples": {task: [sample.id for sample in self.samples[CALIBRATION][task]] for task in TASKS}})
        models = report({name: {task: sums[_name(MEASURED, task)] for task in TASKS} for name, sums in found.items()},
                        pooled, clusters)
        num_layers = len(pooled.mean)
        results = {
            "benchmark": NAME, "protocol": PROTOCOL, "base": base["id"], "checkpoints": checkpoints,
            "settings": about["settings"] | {"clusters": rule}, "pictures_sha256": about["pictures_sha256"],
            "prompt_file_sha256": prompt_file_sha256(about["prompt_files"]),
            "clusters": {task: {"size": len(neurons), "by_layer": clusters.sizes(task, num_layers),
                                "jaccard": clusters.jaccard[task]} for task, neurons in clusters.neurons.items()},
            "models": models, "missing": missing, "complete": not missing,
        }
        write_json(self.folder.root / "activation.json", results)
        write_bytes(self.folder.root / "activation.svg", _plot(models).encode())
        return results

    def _all(self) -> list[Sample]:
        return [sample for by_task in self.samples.values() for samples in by_task.values() for sample in samples]

    def _folder_of(self, model_id: str) -> epath.Path:
        return self.folder.root / "models" / model_id

    def _sums(self, model_id: str, name: str) -> epath.Path:
        return self._folder_of(model_id) / f"{name}.safetensors"

    def _sets(self, model_id: str) -> dict[str, list[Sample]]:
        """What a model is measured on, by name; only the base model is calibrated on."""
        sets = {}
        if model_id == self.folder.begun_with()["base"]["id"]:
            for task, samples in self.samples[CALIBRATION].items():
                halves = half_of([sample.id for sample in samples])
                for half in _HALVES:
                    sets[_name(CALIBRATION, task, half)] = [
                        sample for sample, place in zip(samples, halves, strict=True) if place == half]
        return sets | {_name(MEASURED, task): list(samples) for task, samples in self.samples[MEASURED].items()}


def _name(chosen: str, task: str, half: int | None = None) -> str:
    return f"{chosen}-{task}" if half is None else f"{chosen}-{task}-{half}"


def _stream(
    samples: Sequence[Sample], path: epath.Path, shape: tuple[int, int],
    values: Callable[[Sequence[Sample]], np.ndarray], batch_size: int, title: str,
) -> None:
    """Adds the samples behind those that are in the sums already, and writes the sums after each batch."""
    sums = NeuronSums.load(path) if object_store.exists(path) else NeuronSums(*shape)
    if sums.mean.shape != shape or sums.count > len(samples):
        raise BadInput(f"{path}: expected sums of at most {len(samples)} samples over {list(shape)} neurons, found "
                       f"{sums.count} over {list(sums.mean.shape)}; it was changed: remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    for first in tqdm(range(sums.count, len(samples), batch_size), desc=title, unit="batch", disable=None):
        batch = samples[first : first + batch_size]
        found = values(batch)
        for sample, of_sample in zip(batch, found, strict=True):
            if not np.isfinite(of_sample).all():
                raise Failure(f"{sample.id}: a neuron's value is not finite: expected numbers; the weights are "
                              "damaged, or --dtype is too narrow.")
        sums.add(found)
        sums.save(path)


def _plot(models: Mapping[str, Any]) -> str:
    """A line for each model and cluster, from the understanding to the generation samples."""
    lines = {f"{model}: {cluster}": [(place, by_data[data][cluster]["strength"]) for place, data in enumerate(TASKS)]
             for model, by_data in models.items() for cluster in TASKS}
    return line_chart(lines, "samples: 0 understanding, 1 generation", "average activation strength")
