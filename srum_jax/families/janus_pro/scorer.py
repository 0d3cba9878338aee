"""How likely Janus-Pro makes texts and pictures: both exact. Rows of a batch do not influence each other."""

from collections.abc import Sequence

import numpy as np

from srum_jax.data.image_transform import to_rgb
from srum_jax.families.janus_pro.answerer import views_of
from srum_jax.families.janus_pro.generator import prompts_of
from srum_jax.families.janus_pro.programs import SCORE_CODES, SCORE_TEXT
from srum_jax.families.janus_pro.request_reader import RequestReader
from srum_jax.inference.batch_shapes import bucket, filled
from srum_jax.inference.loaded import LoadedModel
from srum_jax.inference.request_checks import as_image
from srum_jax.inference.requests import ImageRequest, Question, each_read
from srum_jax.models.janus_pro.pictures import view_to_draw


class JanusScorer(LoadedModel):
    """See `Scorer`."""

    exact = True

    reads = RequestReader

    def texts(
        self, questions: Sequence[Question], answers: Sequence[str], *, count_end: bool = False, total: bool = False
    ) -> np.ndarray:
        """See `Scorer`."""
        if not questions:
            return np.zeros(0, np.float32)
        config = self.programs.config
        read, _ = filled(each_read(self.reader.question, questions), self.programs.rows_multiple)
        told, _ = filled(list(answers), self.programs.rows_multiple)
        asked = [self.reader.asking(item.prompt, len(item.pictures)) for item in read]
        said = [self.reader.answer(text) for text in told]
        width, predicted = bucket(max(len(a) + len(b) for a, b in zip(asked, said, strict=True))), bucket(
            max(map(len, said)))
        ids = np.full((len(read), width), config.special_tokens.pad, np.int32)
        real = np.zeros(ids.shape, bool)
        places, labels = (np.zeros((len(read), predicted), np.int32) for _ in range(2))
        counted = np.zeros(places.shape, np.float32)
        for row, (question, answer) in enumerate(zip(asked, said, strict=True)):
            length, count = len(question) + len(answer), len(answer)
            ids[row, :length], real[row, :length] = [*question, *answer], True
            places[row, :count], labels[row, :count] = np.arange(len(question) - 1, length - 1), answer
            counted[row, : count if count_end else count - 1] = 1
        log_probs = self.programs.fetch(self.programs.call(
            SCORE_TEXT, ids, real, views_of(read, self.programs), places, labels))
        sums = np.sum(log_probs * counted, axis=1)
        found = sums if total else sums / np.maximum(np.sum(counted, axis=1), 1)
        return found[: len(questions)].astype(np.float32)

    def pictures(
        self, requests: Sequence[ImageRequest], pictures: Sequence[np.ndarray], times: np.ndarray
    ) -> np.ndarray:
        """See `Scorer`: mean log probability per code, float32 [N, 1]; a picture is encoded, whatever drew it."""
        del times
        if not requests:
            return np.zeros((0, 1), np.float32)
        config = self.programs.config
        read, _ = filled(each_read(self.reader.image, requests), self.programs.rows_multiple)
        images, _ = filled([to_rgb(as_image(picture)) for picture in pictures], self.programs.rows_multiple)
        side = config.vq.image_size
        shown = np.zeros((len(images), side, side, 3), np.uint8)
        for row in np.flatnonzero(self.programs.own_rows(len(images))):
            shown[row] = view_to_draw(images[row], side)
        log_probs = self.programs.call(
            SCORE_CODES, prompts_of([item.prompt for item in read], config.special_tokens.pad), shown)
        return np.mean(self.programs.fetch(log_probs), axis=1, keepdims=True)[: len(requests)]
