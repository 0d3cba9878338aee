"""Questions in, answers out. Rows of a batch do not influence each other."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from srum_jax.families.bagel.conversation import Conversation, patch_slots, text_slots
from srum_jax.families.bagel.request_reader import ReadQuestion, RequestReader
from srum_jax.inference.loaded import LoadedAnswerer
from srum_jax.inference.programs import Programs
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText


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


class BagelAnswerer(LoadedAnswerer):
    """See `Answerer`."""

    reads = RequestReader

    def _write(self, read: list[ReadQuestion], keys: jax.Array, active: np.ndarray, sampler: TextSampler, think: bool
               ) -> DecodedText:
        system = None
        if think:
            system = self.opened.tokenizer.encode(self.opened.templates.think_understanding, control_tokens=True)
        return asked(self.programs, read, system).write(keys, active, sampler)
