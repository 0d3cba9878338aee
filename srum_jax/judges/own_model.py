"""The model judges its own images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from srum_jax.errors import BadInput
from srum_jax.inference.protocols import Answerer
from srum_jax.inference.requests import Question
from srum_jax.inference.settings import TextSampler
from srum_jax.rewards.judgement.calls import Call, Reply


@dataclasses.dataclass(frozen=True)
class ModelJudge:
    """Calls of equal settings are answered in one batch."""

    answerer: Answerer  # that can be asked about pictures
    batch_size: int  # calls in one batch at most

    def answer(self, calls: Sequence[tuple[np.ndarray | None, Call]]) -> list[Reply]:
        """See `Judge`. Raises BadInput where a call goes on with a conversation: the model is asked one question."""
        if any(call.history for _, call in calls):
            raise BadInput("--judge model: it answers single questions; a conversation needs transformers:DIR or "
                           "endpoint:URL.")
        replies: dict[int, Reply] = {}
        groups: dict[tuple, list[int]] = {}
        for number, (_, call) in enumerate(calls):
            groups.setdefault((call.max_new_tokens, call.temperature, call.think), []).append(number)
        for (limit, temperature, think), numbers in groups.items():
            # The marker that starts a reply is fed too, and counts.
            sampler = TextSampler(limit + 1, temperature)
            for first in range(0, len(numbers), self.batch_size):
                batch = numbers[first : first + self.batch_size]
                questions = [Question(call.text, () if pixels is None else (pixels,), call.seed)
                             for pixels, call in (calls[n] for n in batch)]
                questions += [questions[0]] * (self._rows(len(numbers)) - len(batch))
                answers = self.answerer.answer(questions, sampler=sampler, think=think, allow_non_finite=True)
                for number, answer in zip(batch, answers, strict=False):
                    replies[number] = Reply(answer.raw, answer.num_tokens, not answer.truncated, answer.healthy)
        return [replies[number] for number in range(len(calls))]

    def _rows(self, count: int) -> int:
        """Rows of all batches for so many calls: few different numbers, as each is another program to compile."""
        return min(self.batch_size, 1 << (count - 1).bit_length())
