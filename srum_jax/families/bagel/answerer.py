"""Questions in, answers out. Rows of a batch do not influence each other."""

from collections.abc import Callable, Sequence

import jax

from srum_jax.families.bagel.conversation import Conversation, patch_slots, text_slots
from srum_jax.families.bagel.request_reader import ReadQuestion, RequestReader
from srum_jax.inference.batch_shapes import filled
from srum_jax.inference.loaded import LoadedModel
from srum_jax.inference.opened import Opened
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import Answer, Question, each_read
from srum_jax.inference.settings import TextSampler


def asked(
    programs: Programs, questions: Sequence[ReadQuestion], system: Sequence[int] | None = None,
    kind: Callable[..., Conversation] = Conversation,
) -> Conversation:
    """A conversation that holds the pictures of each question, then its text; the answer is to follow.

    Args:
      programs: of the model.
      questions: a multiple of `programs.rows_multiple`.
      system: instructions that stand before, token ids without markers.
      kind: makes the conversation, which may look at what is added.
    """
    texts = [item.prompt for item in questions]
    images = [
        [item.patches[i] if i < len(item.patches) else None for item in questions]
        for i in range(max(len(item.patches) for item in questions))
    ]
    slots = text_slots(programs, texts) + sum(map(patch_slots, images))
    if system is not None:
        slots += text_slots(programs, [system])
    conversation = kind(programs, len(questions), slots, image_guidance=False)
    if system is not None:
        conversation.add_system([system] * len(questions))
    for views in images:
        conversation.add_patches(views)
    conversation.add_text(texts)
    return conversation


class BagelAnswerer(LoadedModel):
    """See `Answerer`."""

    def __init__(self, opened: Opened):
        """Puts a loaded model to work; without its vision tower it answers questions without images."""
        super().__init__(opened, RequestReader(opened, sees=opened.programs.model.vit is not None))

    def answer(
        self,
        questions: Sequence[Question],
        *,
        sampler: TextSampler | None = None,
        think: bool = False,
        allow_non_finite: bool = False,
    ) -> list[Answer]:
        """See `Answerer`."""
        if not questions:
            return []
        read, active = filled(each_read(self.reader.question, questions), self.programs.rows_multiple)
        system = None
        if think:
            system = self.opened.tokenizer.encode(self.opened.templates.think_understanding, control_tokens=True)
        conversation = asked(self.programs, read, system)
        keys = random_keys([item.seed for item in read], Use.TEXT)
        decoded = jax.device_get(conversation.write(keys, active, sampler or TextSampler()))
        return self.answers(decoded, len(questions), think=think, allow_non_finite=allow_non_finite)
