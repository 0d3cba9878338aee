"""Requests checked, and turned into token ids and views of pictures."""

import dataclasses
from typing import ClassVar

from PIL import Image

from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.request_checks import ModelReader, check_seed, requested_size
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.models.janus_pro.prompts import SYSTEM, answer_ids, generation_prompt, understanding_prompt


@dataclasses.dataclass(frozen=True)
class ReadImageRequest:
    """A picture to be drawn, as the model is given it."""

    prompt: list[int]  # token ids, from the first to the one that begins the picture
    seed: int


@dataclasses.dataclass(frozen=True)
class ReadQuestion:
    """A question, as the model is given it."""

    prompt: str
    seed: int
    pictures: tuple[Image.Image, ...]  # RGB, of any size


class RequestReader(ModelReader):
    """Reads requests for one model."""

    part: ClassVar[str] = "vision"
    tower: ClassVar[str] = "vision_model.* tensors"
    most_aspect: ClassVar[int] = 200  # beyond it, less than a row of pixels is left after the resize

    def __init__(self, files: SmallFiles):
        """See `ModelReader`; BadInput: the tokenizer is that of another model."""
        self._room = files.config.llm.max_position_embeddings
        super().__init__(files, self._room)
        self._prompt.check_range(self._drawing(""), "the template around a caption")
        self._prompt.check_range(self.asking("", 0, think=True), "an instruction of think mode")

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return (self._config.vq.image_size,) * 2

    def image(self, request: ImageRequest) -> ReadImageRequest:
        """See `ModelReader`."""
        check_seed(request.seed)
        self._prompt(request.prompt)
        self._refuse_edit(request)
        side = self._config.vq.image_size
        for name, found in zip(("height", "width"), requested_size(request, self.default_size, 1), strict=True):
            if found != side:
                raise RequestError(f"{name}: expected {side} pixels, the only size that the model draws, found "
                                   f"{found}.")
        prompt = self._drawing(request.prompt)
        self._require_room(len(prompt) + self._config.vq.num_codes, "prompt", "shorten it")
        return ReadImageRequest(prompt, request.seed)

    def question(self, question: Question) -> ReadQuestion:
        """See `ModelReader`."""
        self._asked(question, self._tokens.image)
        pictures = tuple(map(self._rgb, question.images))
        self._require_room(len(self.asking(question.prompt, len(pictures))), "image", "give fewer pictures")
        return ReadQuestion(question.prompt, question.seed, pictures)

    def asking(self, prompt: str, num_pictures: int, *, think: bool = False) -> list[int]:
        """Token ids of a question behind its pictures, up to where the answer begins."""
        return understanding_prompt(prompt, num_pictures, self._config.vision.num_tokens, self._prompt.encode,
                                    self._tokens, self._think if think else SYSTEM)

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, and of the token that ends it."""
        return answer_ids(text, self._prompt.encode, self._tokens)

    def _drawing(self, caption: str) -> list[int]:
        return generation_prompt(caption, self._prompt.encode, self._tokens)

    def _require_room(self, need: int, field: str, advice: str) -> None:
        if need > self._room:
            raise RequestError(f"{field}: expected at most {self._room} tokens of text and pictures, found {need}; "
                               f"{advice}.")
