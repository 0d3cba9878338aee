"""Requests checked, and turned into token ids and views of images."""

import dataclasses
from typing import ClassVar

import numpy as np

from srum_jax.families.bagel.image_views import (
    ImageViews,
    LatentView,
    PatchView,
    latent_position_ids,
    latent_view,
    patch_view,
)
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.request_checks import ModelReader, check_seed, requested_size
from srum_jax.inference.requests import ImageRequest, Picture, Question


@dataclasses.dataclass(frozen=True)
class ReadImageRequest:
    """An image to be made, as the model is given it."""

    prompt: list[int]  # token ids without markers
    seed: int
    size: tuple[int, int]  # height and width in pixels
    position_ids: np.ndarray  # int32 [G], rows of the latent position table, of the image to be made
    source: LatentView | None
    patches: PatchView | None


@dataclasses.dataclass(frozen=True)
class ReadQuestion:
    """A question, as the model is given it."""

    prompt: list[int]  # token ids without markers
    seed: int
    patches: list[PatchView]


class RequestReader(ModelReader):
    """Reads requests for one model."""

    part: ClassVar[str] = "vit"
    tower: ClassVar[str] = "vit_config.json and vit_model.* tensors"

    def __init__(self, files: SmallFiles):
        """See `ModelReader`."""
        # Both markers of a text need a rotary position too.
        super().__init__(files, files.config.llm.max_position_embeddings - 2)
        self._views = ImageViews.of(files.config)
        for text in (files.templates.think_generation, files.templates.think_understanding):
            self._prompt.check_range(self._prompt.encode(text, control_tokens=True), "an instruction of think mode")

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return self._views.latent.max_size, self._views.latent.max_size

    def image(self, request: ImageRequest) -> ReadImageRequest:
        """See `ModelReader`."""
        check_seed(request.seed)
        tokens = self._prompt(request.prompt)
        latent = patches = None
        if request.image is not None:
            self._must_see()
            latent = latent_view(request.image, self._views, self._config)
            patches = patch_view(latent.resized, self._views, self._config)
        size = requested_size(request, self.default_size if latent is None else latent.resized.size[::-1],
                              self._config.latent_stride)
        return ReadImageRequest(tokens, request.seed, size, latent_position_ids(*size, self._config), latent, patches)

    def question(self, question: Question) -> ReadQuestion:
        """See `ModelReader`."""
        tokens = self._asked(question)
        seen = (latent_view(image, self._views, self._config) for image in question.images)
        return ReadQuestion(tokens, question.seed,
                            [patch_view(view.resized, self._views, self._config) for view in seen])

    def answer(self, text: str) -> list[int]:
        """Reads a text that is given for an answer, token ids without markers.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """
        return self._prompt(text)

    def picture(self, image: Picture) -> LatentView:
        """Reads a picture as the autoencoder is given it.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """
        return latent_view(image, self._views, self._config)
