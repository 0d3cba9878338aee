"""Texts and pictures in, their scores out. Rows of a batch do not influence each other."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from srum_jax.families.bagel.answerer import asked
from srum_jax.families.bagel.conversation import Conversation, encode_views, text_slots
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.programs import FLOW_ERRORS, SCORE_TEXT
from srum_jax.families.bagel.request_reader import RequestReader
from srum_jax.inference.batch_shapes import filled
from srum_jax.inference.loaded import LoadedModel
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import ImageRequest, Question, each_read
from srum_jax.rewards.dual_likelihood import likelihood


class BagelScorer(LoadedModel):
    """See `Scorer`."""

    exact: ClassVar[bool] = False

    reads = RequestReader

    def texts(
        self, questions: Sequence[Question], answers: Sequence[str], *, count_end: bool = False, total: bool = False
    ) -> np.ndarray:
        """See `Scorer`."""
        read = list(zip(each_read(self.reader.question, questions), each_read(self.reader.answer, answers),
                        strict=True))
        read, _ = filled(read, self.programs.rows_multiple)
        special, texts = self.programs.config.special_tokens, [answer for _, answer in read]
        ids = np.zeros((len(read), text_slots(self.programs, texts)), np.int32)
        lengths = np.array([len(text) for text in texts], np.int32)
        for row, text in enumerate(texts):
            ids[row, : len(text) + 2] = [special.bos, *text, special.eos]
        context = asked(self.programs, [question for question, _ in read]).everything
        log_probs = self.programs.call(SCORE_TEXT, context, ids, lengths + 2)
        counted = np.arange(ids.shape[1])[None] < (lengths + int(count_end))[:, None]
        found = likelihood(log_probs, counted)
        return self.programs.fetch(found.total if total else found.mean)[: len(questions)]

    def pictures(
        self, requests: Sequence[ImageRequest], pictures: Sequence[np.ndarray], times: np.ndarray
    ) -> np.ndarray:
        """See `Scorer`: minus the velocity errors."""
        views = each_read(self.reader.picture, pictures)
        read, _ = filled(list(zip(each_read(self.reader.image, requests), views, times, strict=True)),
                         self.programs.rows_multiple)
        seeds, views = [request.seed for request, _, _ in read], [view for _, view, _ in read]
        prompts = [request.prompt for request, _, _ in read]
        conversation = Conversation(self.programs, len(read), text_slots(self.programs, prompts), image_guidance=False)
        conversation.add_text(prompts)
        latent = encode_views(self.programs, views, random_keys(seeds, Use.POSTERIOR))
        counts = np.array([len(view.position_ids) for view in views], np.int32)
        position_ids = np.zeros(latent.shape[:2], np.int32)
        for row, view in enumerate(views):
            position_ids[row, : counts[row]] = view.position_ids
        errors = self.programs.call(FLOW_ERRORS, conversation.everything, latent, random_keys(seeds, Use.NOISE),
                                    np.stack([row for _, _, row in read]), LatentLayout(position_ids, counts))
        return -self.programs.fetch(errors)[: len(requests)]
