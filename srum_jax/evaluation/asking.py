"""One question to a judge, asked again with a reminder of its form while the reply cannot be read."""

from collections.abc import Callable, Generator

from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplate


def ask(
    kind: str,
    text: str,
    template: JudgeTemplate,
    subject_id: str,
    readable: Callable[[str], object] = lambda reply: True,
    *,
    attempts: int = 1,
    reminder: str = "",
    history: tuple[tuple[str, str], ...] = (),
) -> Generator[Call, Reply, Reply]:
    """Yields greedy calls, takes replies; returns the first that can be read, or the last.

    Args:
      kind: of the call.
      text: the question.
      template: that it was made from; its token limit holds.
      subject_id: of what is shown.
      readable: whether a reply can be read.
      attempts: at most.
      reminder: put behind the question from the second attempt on.
      history: questions before, and what the judge answered.
    """
    for attempt in range(1, attempts + 1):
        asked = text if attempt == 1 else f"{text}\n\n{reminder}"
        reply = yield Call(kind, attempt, asked, template.max_new_tokens, False, None, 0, template.sha256, subject_id,
                           history)
        if readable(reply.text):
            break
    return reply
