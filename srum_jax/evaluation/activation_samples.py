"""Which samples tell neurons apart: prompts of pictures and questions about pictures, measured on and calibrated on."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from srum_jax.errors import BadInput
from srum_jax.evaluation.activation import GENERATION, UNDERSTANDING
from srum_jax.evaluation.benchmark import Benchmark
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.evaluation.t2i_compbench import PARTS_OF_COMPLEX
from srum_jax.rewards.judgement.calls import Reply

CALIBRATION, MEASURED = SETS = ("calibration", "measured")
_PROMPTS, _PAIRS, _TASKS = "t2i_compbench", "mmvp", "mme"  # whose items they are
_NOTHING = Reply("", 0, True)
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One prompt, or one question with its picture.

    Attributes:
      id: unique; begins with the benchmark's name.
      item: that it is of; the questions of one item lie in one set.
      category: of the item.
      prompt: of a picture to be made, or the question as the model is asked it.
      image: path below the folder of pictures; empty for a prompt.
    """

    id: str
    item: str
    category: str
    prompt: str
    image: str = ""


def read_samples(files: Mapping[str, bytes]) -> dict[str, list[Sample]]:
    """All samples of both tasks.

    Args:
      files: contents by name: val_comp.json, or T2I-CompBench's *_val.txt; and MMVP's Questions.csv, MME's <task>.txt.

    Raises:
      BadInput: a file cannot be used, or there is none of a task.
    """
    by_benchmark: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        kind = _PROMPTS if name.endswith(".json") or "_val" in name else _PAIRS if name.endswith(".csv") else _TASKS
        by_benchmark.setdefault(kind, {})[name] = data
    if _PROMPTS not in by_benchmark or len(by_benchmark) == 1:
        raise BadInput("--prompts: expected prompts of T2I-CompBench (val_comp.json) and questions of MMVP "
                       f"(Questions.csv) or MME (<task>.txt), found {sorted(files) or 'nothing'}.")
    prompts = [Sample(f"{_PROMPTS}/{item.id}", item.id, item.category, item.prompt)
               for item in open_benchmark(_PROMPTS, template="").items(by_benchmark.pop(_PROMPTS))
               if item.category not in PARTS_OF_COMPLEX]
    questions = [sample for name, members in sorted(by_benchmark.items())
                 for sample in _questions(open_benchmark(name), members)]
    return {UNDERSTANDING: questions, GENERATION: prompts}


def split(samples: Mapping[str, Sequence[Sample]], count: int) -> dict[str, dict[str, list[Sample]]]:
    """By set and task: `count` samples to calibrate on and as many others to measure; a function of ids alone.

    Prompts are as many of each category. Questions of one item lie in one set.

    Raises:
      BadInput: there are too few, or `count` cannot be divided among categories.
    """
    advice = "give more files, or --set activation.samples with another number"
    categories = sorted({sample.category for sample in samples[GENERATION]})
    if count % len(categories) or count % 2:
        raise BadInput(f"activation.samples: expected an even multiple of the {len(categories)} categories of prompts, "
                       f"found {count}; {advice}.")
    prompts = [_shuffled([[sample] for sample in samples[GENERATION] if sample.category == category])
               for category in categories]
    by_item: dict[str, list[Sample]] = {}
    for sample in samples[UNDERSTANDING]:
        by_item.setdefault(sample.item, []).append(sample)
    questions = _shuffled(list(by_item.values()))
    share = count // len(categories)
    for name, found, needed in (*(("category " + category, len(members), share)
                                  for category, members in zip(categories, prompts, strict=True)),
                                ("questions", len(samples[UNDERSTANDING]), count)):
        if found < 2 * needed:
            raise BadInput(f"activation: {name}: expected {2 * needed} samples, to calibrate on and to measure, found "
                           f"{found}; {advice}.")
    return {chosen: {
        UNDERSTANDING: questions[place * count : (place + 1) * count],
        GENERATION: [sample for members in prompts for sample in members[place * share : (place + 1) * share]],
    } for place, chosen in enumerate(SETS)}


def _shuffled(groups: Sequence[Sequence[Sample]]) -> list[Sample]:
    groups = sorted(groups, key=lambda group: group[0].id)
    return [sample for place in np.random.default_rng(_SEED).permutation(len(groups)) for sample in groups[place]]


def _questions(benchmark: Benchmark, files: Mapping[str, bytes]) -> list[Sample]:
    samples = []
    for item in benchmark.items(files):
        for number in range(benchmark.images_per_item):
            conversation, call = benchmark.calls(item, number), None
            while True:
                try:
                    call = conversation.send(None if call is None else _NOTHING)
                except StopIteration:
                    break
                name = f"{benchmark.name}/{item.id}"
                samples.append(Sample(f"{name}/{number}/{call.kind}", name, item.category, call.text,
                                      benchmark.image(item, number)))
    return samples
