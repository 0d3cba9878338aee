"""Questions in, answers out. Rows of a batch do not influence each other."""

from collections.abc import Sequence

import jax
import numpy as np

from srum_jax.families.janus_pro.programs import PREFILL, WRITE_TEXT
from srum_jax.families.janus_pro.request_reader import ReadQuestion, RequestReader
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.loaded import LoadedAnswerer
from srum_jax.inference.programs import Programs
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText
from srum_jax.models.janus_pro.pictures import view_to_read
from srum_jax.models.janus_pro.prompts import left_padded


class JanusAnswerer(LoadedAnswerer):
    """See `Answerer`. In think mode the instruction to think takes the place of the system's usual text."""

    reads = RequestReader

    def _write(self, read: list[ReadQuestion], keys: jax.Array, active: np.ndarray, sampler: TextSampler, think: bool
               ) -> DecodedText:
        config = self.programs.config
        prompts = [self.reader.asking(item.prompt, len(item.pictures), think=think) for item in read]
        # The last token is fed first, and is the same in all rows.
        ids, real = left_padded([prompt[:-1] for prompt in prompts], bucket(max(map(len, prompts)) - 1),
                                config.special_tokens.pad)
        context = self.programs.call(PREFILL, ids, real, views_of(read, self.programs))
        return self.programs.call(WRITE_TEXT, context, prompts[0][-1], keys, active, sampler)


def views_of(read: Sequence[ReadQuestion], programs: Programs) -> np.ndarray | None:
    """The pictures of all rows, as many for each, uint8 [B, P, V, V, 3]; None if there are none.

    Those that a row lacks are black and never looked up, those of another process's rows are black here.
    """
    most, side = max(len(item.pictures) for item in read), programs.config.vision.image_size
    if not most:
        return None
    views = np.zeros((len(read), most, side, side, 3), np.uint8)
    for row in np.flatnonzero(programs.own_rows(len(read))):
        for number, picture in enumerate(read[row].pictures):
            views[row, number] = view_to_read(picture, side)
    return views
