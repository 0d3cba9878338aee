"""How likely a model answers "yes" to a question about a picture, from its log probabilities."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from srum_jax.errors import Failure
from srum_jax.inference.protocols import Scorer
from srum_jax.inference.requests import Question
from srum_jax.rewards.judgement.judge_templates import JudgeTemplate


@dataclasses.dataclass(frozen=True)
class YesOrNo:
    """Asks many questions; nothing is sampled."""

    scorer: Scorer
    batch_size: int  # answers scored together

    def probabilities(self, asked: Sequence[tuple[np.ndarray, str, JudgeTemplate]]) -> list[float]:
        """p(yes) / (p(yes) + p(no)) of each, in [0, 1], where each p is summed over the spellings of an answer.

        Args:
          asked: pixels uint8 [H, W, 3], the whole question, and the template with the spellings of both answers.

        Raises:
          RequestError: the model cannot read one of them.
          Failure: it computed something that is not a number.
        """
        rows = [(Question(text, (pixels,)), answer) for pixels, text, template in asked
                for answer in (*template.yes, *template.no)]
        log_probs: list[float] = []
        for first in range(0, len(rows), self.batch_size):
            batch = rows[first : first + self.batch_size]
            # Full batches, as every number of rows is another program to compile.
            filled = batch + [batch[0]] * (self.batch_size - len(batch))
            found = self.scorer.texts([question for question, _ in filled], [answer for _, answer in filled],
                                      total=True)
            log_probs += np.asarray(found, np.float64)[: len(batch)].tolist()
        probabilities, start = [], 0
        for _, text, template in asked:
            middle, end = start + len(template.yes), start + len(template.yes) + len(template.no)
            probabilities.append(yes_probability(log_probs[start:middle], log_probs[middle:end]))
            if not np.isfinite(probabilities[-1]):
                raise Failure(f"question {text!r}: the probability of yes is {probabilities[-1]}: expected a number; "
                              "the weights are damaged, or do not fit the dtype (try --dtype float32).")
            start = end
        return probabilities


def yes_probability(yes: Sequence[float], no: Sequence[float]) -> float:
    """p(yes) / (p(yes) + p(no)) from the log probabilities of the spellings of each; exact where all are tiny."""
    difference = np.logaddexp.reduce(np.asarray(no, np.float64)) - np.logaddexp.reduce(np.asarray(yes, np.float64))
    return float(np.exp(-np.logaddexp(0.0, difference)))
