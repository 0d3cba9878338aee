"""A checkpoint, ready to be asked from Python.

    from srum_jax.inference.requests import ImageRequest
    from srum_jax.pipeline import load

    pipeline = load("BAGEL-7B-MoT")
    image = pipeline.generate([ImageRequest("a red circle left of a blue square", seed=0)])[0].pixels
"""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from srum_jax.attention_route import attention_route
from srum_jax.devices import start_devices
from srum_jax.errors import BadInput
from srum_jax.families.family import Family
from srum_jax.families.registry import family_of
from srum_jax.inference.opened import DEFAULT_MAX_PROMPT_TOKENS, Opened, SmallFiles
from srum_jax.inference.programs import Programs
from srum_jax.inference.protocols import Answerer, Checker, Generator, Neurons, OnPlan, OnStep, Scorer
from srum_jax.inference.requests import Answer, GeneratedImage, ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A model that can be asked for images and for answers.

    Attributes:
      generator: makes images.
      answerer: answers questions; None where the family cannot be asked.
      scorer: says how likely the model makes texts and pictures; None where it cannot.
      neurons: says what the neurons of its MLPs do; None where they cannot be looked at.
    """

    generator: Generator
    answerer: Answerer | None
    scorer: Scorer | None = None
    neurons: Neurons | None = None

    def check(self, request: ImageRequest | Question) -> None:
        """See `Checker`."""
        (self._answerer() if isinstance(request, Question) else self.generator).check(request)

    def generate(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, on_step: OnStep | None = None,
        on_plan: OnPlan | None = None,
    ) -> list[GeneratedImage]:
        """See `Generator`."""
        return self.generator.generate(requests, plan=plan, on_step=on_step, on_plan=on_plan)

    def answer(
        self, questions: Sequence[Question], *, sampler: TextSampler | None = None, think: bool = False,
        allow_non_finite: bool = False,
    ) -> list[Answer]:
        """See `Answerer`."""
        return self._answerer().answer(questions, sampler=sampler, think=think, allow_non_finite=allow_non_finite)

    def _answerer(self) -> Answerer:
        if self.answerer is None:
            raise RequestError("question: expected a model that answers questions, found one that only draws.")
        return self.answerer


def load(
    checkpoint: epath.PathLike,
    *,
    sampler: Any = None,
    mesh: MeshConfig | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "bfloat16",
    attention: str = "auto",
    templates: Templates | None = None,
    understanding: bool = True,
    max_prompt_tokens: int = DEFAULT_MAX_PROMPT_TOKENS,
    control_tokens: bool = False,
    least_text: int = 0,
    quantize: str | None = None,
) -> Pipeline:
    """Loads a checkpoint.

    Args:
      checkpoint: a published directory, or converted weights.
      sampler: how images are sampled, of the family's kind; None for the published settings.
      mesh: how its devices are used; None splits the weights over all of them (fsdp).
      devices: None for those of this process, so that the processes of a pod work independently.
      dtype: "bfloat16" or "float32", of weights and activations; what decodes pixels may stay float32.
      attention: "dense", "chunked", "splash", "cudnn", or "auto"; see `attention_route`.
      templates: instructions of think mode; None for the shipped ones.
      understanding: whether to load what only reading pictures needs.
      max_prompt_tokens: longer prompts are refused.
      control_tokens: whether names of control tokens inside a prompt act as such; else they are plain text.
      least_text: see `Programs`.
      quantize: "int8" or "int4", of the matrices of all layers; None keeps them in `dtype`.

    Raises:
      WeightsError, ConfigError, BadInput: the checkpoint is unusable.
      BadInput: the devices cannot be arranged as asked.
    """
    family = family_of(checkpoint)
    files = small_files(family, checkpoint, templates=templates, max_prompt_tokens=max_prompt_tokens,
                        control_tokens=control_tokens)
    if devices is None:
        start_devices()
        devices = jax.local_devices()
    route = attention_route(attention, devices[0], dtype, setting="attention")
    _LOG.info("%s", route)
    arranged = build_mesh(mesh or MeshConfig(data=1, fsdp=-1), devices)
    if arranged.shape["seq"] != 1:
        raise BadInput(f"mesh: generation cannot split the tokens of a row: expected seq=1, found "
                        f"{arranged.shape['seq']}; use fsdp or tensor.")
    parts = family.architecture.parts_for({"draw", "read"} if understanding else {"draw"})
    graphdef, state = load_weights(
        open_checkpoint(checkpoint, family.architecture, parts), mesh=arranged,
        dtype=lambda parameter: "float32" if parameter.startswith(family.architecture.float32) else dtype,
        quantize=quantize,
    )
    programs = Programs(graphdef, state, arranged, ComputeConfig(dtype=dtype, attention=route.name, remat="none"),
                        least_text=least_text)
    opened = Opened(**vars(files), programs=programs)
    return Pipeline(family.generator(opened, family.sampler() if sampler is None else sampler),
                    None if family.answerer is None else family.answerer(opened),
                    None if family.scorer is None else family.scorer(opened),
                    None if family.neurons is None else family.neurons(opened))


def checker(
    checkpoint: epath.PathLike, *, templates: Templates | None = None, control_tokens: bool = False
) -> Checker:
    """What `load` would check requests with, known in moments: no weights are read.

    Raises:
      WeightsError, ConfigError, BadInput: the small files are absent or unusable.
    """
    family = family_of(checkpoint)
    return family.checker(small_files(family, checkpoint, templates=templates, control_tokens=control_tokens))


def small_files(
    family: Family,
    checkpoint: epath.PathLike,
    *,
    templates: Templates | None = None,
    max_prompt_tokens: int = DEFAULT_MAX_PROMPT_TOKENS,
    control_tokens: bool = False,
) -> SmallFiles:
    """All of a checkpoint but its weights; arguments as for `load`.

    Raises:
      ConfigError, BadInput: the files are absent or unusable.
    """
    path = epath.Path(checkpoint)
    directory = path if path.is_dir() else path.parent
    return SmallFiles(family.architecture.read_config(directory), load_tokenizer(path), templates or Templates.read(),
                      max_prompt_tokens, control_tokens, os.fspath(directory))
