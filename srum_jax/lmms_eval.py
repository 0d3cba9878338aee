"""Our models under lmms-eval, which has the tasks and scorers of understanding benchmarks.

    lmms_eval --model srum_jax --model_args checkpoint=BAGEL-7B-MoT --tasks mmbench_en_dev,mmmu_val --batch_size 8

The installed package finds this file through the entry point `srum_jax` of the group `lmms_eval.models`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from tqdm import tqdm

from srum_jax.data.image_transform import decode_image
from srum_jax.errors import BadInput, check
from srum_jax.families.registry import recognise
from srum_jax.inference.requests import Answer, Picture, Question
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import QUANTIZED_DTYPES

_PLACEHOLDER = "<image>"  # some tasks leave it in the text; pictures precede the text of a question
_ONLY_VALUES = {"num_beams": (None, 1), "repetition_penalty": (None, 1), "top_p": (None, 0, 1), "top_k": (None, 0)}


def manifest() -> ModelManifest:
    """What the entry point loads."""
    return ModelManifest("srum_jax", simple_class_path=f"{__name__}.SrumJax")


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How a task wants its answers.

    Attributes:
      sampler: greedy or with a temperature, and the limit.
      until: an answer ends before the first of these.
    """

    sampler: TextSampler
    until: tuple[str, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Decoding":
        """Reads `generation_kwargs` of a task.

        Raises:
          BadInput: they ask for what our decoder does not do.
        """
        temperature = settings.get("temperature")
        if settings.get("do_sample", bool(temperature)):
            temperature = 1.0 if temperature is None else temperature
        else:
            temperature = None
        for name, values in _ONLY_VALUES.items():
            if temperature is not None or not name.startswith("top_"):  # the greedy token is the first of any choice
                check(f"generation_kwargs {name}", settings.get(name) in values, f"one of {values}", settings.get(name))
        until = settings.get("until") or ()
        # The marker that starts an answer is fed too, and counts.
        return cls(TextSampler(settings.get("max_new_tokens", TextSampler.max_tokens - 1) + 1, temperature or None),
                   (until,) if isinstance(until, str) else tuple(until))

    def cut(self, text: str) -> str:
        """What stands before the first end."""
        return text[: min((text.find(end) for end in self.until if end in text), default=len(text))]


class SrumJax(lmms):
    """A model of any family, asked through the interface that all families have."""

    is_simple = True

    def __init__(
        self, checkpoint: str, family: str | None = None, dtype: str = "bfloat16", attention: str = "auto",
        templates: str | None = None, think: bool = False, control_tokens: bool = False, data: int = 1, fsdp: int = -1,
        tensor: int = 1, batch_size: int | str = 1, device: str | None = None, max_batch_size: int | None = None,
        quantize: str | None = None,
    ):
        """Loads the model.

        Args:
          checkpoint: a published directory, or converted weights.
          family: that it has to be of; None for any.
          dtype: "bfloat16" or "float32".
          attention: see `pipeline.load`.
          templates: folder with the instructions of think mode; None for the shipped ones.
          think: whether the model reasons first; what is scored is the text that follows.
          control_tokens: whether names of control tokens inside a question act as such.
          data: copies of the model.
          fsdp: shards of its weights; -1 takes the devices that are left.
          tensor: shards of its heads and MLPs.
          batch_size: questions answered together.
          device: has to be None: devices are those of JAX.
          max_batch_size: without effect, as there is no automatic batch size.
          quantize: "int8" or "int4", of the matrices of all layers; None for floats.

        Raises:
          BadInput: one of them cannot be used.
        """
        super().__init__()
        checkpoint = os.path.expanduser(str(checkpoint))
        found = recognise(checkpoint)
        check(f"--model_args family: checkpoint {checkpoint}", family in (None, found), f"{family}", found)
        check("--batch_size", str(batch_size).isdecimal() and int(batch_size) > 0, "a positive number", batch_size)
        check("--model_args quantize", quantize in (None, *QUANTIZED_DTYPES),
              f"one of {', '.join(QUANTIZED_DTYPES)}, or nothing", quantize)
        check("--device", device is None, "none, as JAX has devices of its own (JAX_PLATFORMS)", device)
        check("WORLD_SIZE", os.environ.get("WORLD_SIZE", "1") == "1",
              "one process, which uses all devices (--model_args fsdp=4,tensor=2)", os.environ.get("WORLD_SIZE"))
        from srum_jax.pipeline import load  # lmms-eval reads this file whichever model it is to run

        self.batch_size, self.think, self._checkpoint = int(batch_size), bool(think), checkpoint
        self.pipeline = load(checkpoint, mesh=MeshConfig(data=int(data), fsdp=int(fsdp), tensor=int(tensor)),
                             dtype=dtype, attention=attention, templates=Templates.read(templates),
                             control_tokens=bool(control_tokens), quantize=quantize)

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The answer to each request, whose `args` are question, generation_kwargs and where its pictures are.

        Raises:
          BadInput: the task asks for another decoding than we have, or a question cannot be read.
        """
        kinds: dict[Decoding, list[int]] = {}
        for number, request in enumerate(requests):
            kinds.setdefault(Decoding.of(request.args[1]), []).append(number)
        results: list[GenerationResult | None] = [None] * len(requests)
        for decoding, numbers in kinds.items():
            for number, answer in self._answers(requests, numbers, decoding.sampler, think=self.think):
                results[number] = GenerationResult(decoding.cut(answer.text),
                                                   TokenCounts(output_tokens=answer.num_tokens))
        return results

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Of each request the loss of a given answer, and whether it is the whole greedy answer, as a pair in `text`.

        The loss is minus the mean log probability of the answer's tokens: what lmms-eval's own models return and its
        tasks take the least of, in spite of the name. A pair by itself its evaluator turns into a string (0.7.3). A
        space before an answer, which tasks put between question and answer, is left out: an answer begins a turn.

        Raises:
          BadInput: the model's family cannot score texts, or a question or an answer cannot be read.
        """
        if self.pipeline.scorer is None:
            raise BadInput(f"--model_args checkpoint={self._checkpoint}: expected a model that says how likely an "
                           f"answer is, for tasks of given answers, found one of {recognise(self._checkpoint)}.")
        given = [self._given(request) for request in requests]
        losses = np.zeros(len(requests))
        for batch, questions in self._batches(requests, range(len(requests))):
            with _naming([requests[number] for number in batch]):
                found = self.pipeline.scorer.texts(questions, self._full([given[number] for number in batch]))
            losses[batch] = -found[: len(batch)]
        asked = [(request.args[0], *request.args[3:]) for request in requests]
        first = {question: number for number, question in reversed(list(enumerate(asked)))}
        # A token has at least one byte; one more shows whether the greedy answer goes on.
        sampler = TextSampler(1 + (1 << max((len(text.encode()) for text in given), default=1).bit_length()))
        greedy = {asked[number]: answer.text for number, answer in
                  self._answers(requests, list(first.values()), sampler, think=False)}
        return [GenerationResult((loss, greedy[question] == text))
                for loss, question, text in zip(losses.tolist(), asked, given, strict=True)]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not available: our models are asked one question at a time."""
        raise BadInput(f"--tasks {requests[0].task_name}: expected tasks of single questions, found one of several "
                       "rounds.")

    def _given(self, request: Instance) -> str:
        target = request.args[1]
        text = (target if isinstance(target, str) else str(target(self._document(request)))).strip()
        check(f"{request.task_name}, document {request.doc_id}: answer", bool(text), "a text", text)
        return text

    def _document(self, request: Instance) -> Mapping[str, Any]:
        check(f"{request.task_name}: metric", len(request.args) == 6, "none that asks without a question "
              "(acc_mutual_info)", request.args)
        document, task, split = request.args[3:]
        return self.task_dict[task][split][document]

    def _question(self, request: Instance, number: int) -> Question:
        with _naming([request]):
            visuals = request.args[2](self._document(request))
            return Question(request.args[0].replace(_PLACEHOLDER, "").strip(), tuple(map(_picture, visuals or ())),
                            number)

    def _answers(self, requests: Sequence[Instance], numbers: Sequence[int], sampler: TextSampler, *, think: bool
                 ) -> Iterator[tuple[int, Answer]]:
        for batch, questions in self._batches(requests, numbers):
            with _naming([requests[number] for number in batch]):
                answers = self.pipeline.answer(questions, sampler=sampler, think=think)
            yield from zip(batch, answers, strict=False)

    def _batches(self, requests: Sequence[Instance], numbers: Sequence[int]
                 ) -> Iterator[tuple[list[int], list[Question]]]:
        """Requests of similar lengths together, in full batches: every other shape is another program to compile."""
        ordered = sorted(numbers, key=lambda number: (len(requests[number].args[0]), number))
        with tqdm(total=len(ordered), desc="srum_jax", unit="question") as bar:
            for start in range(0, len(ordered), self.batch_size):
                batch = ordered[start : start + self.batch_size]
                yield batch, self._full([self._question(requests[number], number) for number in batch])
                bar.update(len(batch))

    def _full(self, batch: list[Any]) -> list[Any]:
        return batch + batch[:1] * (self.batch_size - len(batch))


@contextlib.contextmanager
def _naming(requests: Sequence[Instance]) -> Iterator[None]:
    """Inside, what is wrong with a request is told with its task and document."""
    try:
        yield
    except (BadInput, OSError) as error:
        documents = ", ".join(dict.fromkeys(str(request.doc_id) for request in requests))
        raise BadInput(f"{requests[0].task_name}, document {documents}: {error}") from error


def _picture(visual: Any) -> Picture:
    if isinstance(visual, str):
        return decode_image(epath.Path(visual).read_bytes())
    if not isinstance(visual, Image.Image):
        raise BadInput(f"image: expected pictures, found {type(visual).__name__}.")
    return visual
