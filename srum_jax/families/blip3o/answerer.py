"""Questions in, answers out: Qwen2.5-VL's chat. Rows of a batch do not influence each other."""

import jax
import numpy as np

from srum_jax.families.blip3o.programs import PREFILL, WRITE_TEXT
from srum_jax.families.blip3o.request_reader import ReadPicture, ReadQuestion, RequestReader
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.context import Context
from srum_jax.inference.loaded import LoadedAnswerer
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText
from srum_jax.models.blip3o.patches import Pictures, arrange, window_layout
from srum_jax.models.blip3o.positions import understanding_positions

_WINDOW_BUCKETS = 8  # per octave; a picture of 1036 pixels has 100 windows, and gets 104


class Blip3oAnswerer(LoadedAnswerer):
    """See `Answerer`. In think mode the instruction to think takes the place of the system's usual text."""

    reads = RequestReader

    def _write(self, read: list[ReadQuestion], keys: jax.Array, active: np.ndarray, sampler: TextSampler, think: bool
               ) -> DecodedText:
        context, start = self._context(read, think)
        return self.programs.call(WRITE_TEXT, context, start, keys, active, sampler)

    def _context(self, read: list[ReadQuestion], think: bool) -> tuple[Context, int]:
        """What the answers follow on, but for its last token, which is fed first and is the same in all rows."""
        config = self.programs.config
        prompts = [self.reader.asking(item.prompt, item.pictures, think=think) for item in read]
        ids = np.zeros((len(read), bucket(max(map(len, prompts)))), np.int32)
        real = np.zeros(ids.shape, bool)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt) - 1] = prompt[:-1]
            real[row, : len(prompt) - 1] = True
        merge = config.vision.merge_size
        grids = [(picture.grid[0] // merge, picture.grid[1] // merge) for item in read for picture in item.pictures]
        position, following = understanding_positions(ids, real, grids, config.special_tokens.image_pad)
        context = self.programs.call(PREFILL, ids, real, np.moveaxis(position, 0, -1), following, self._pictures(read))
        return context, prompts[0][-1]

    def _pictures(self, read: list[ReadQuestion]) -> Pictures | None:
        """The pictures of all rows, as many for each; those that a row lacks are empty."""
        config = self.programs.config.vision
        most = max(len(item.pictures) for item in read)
        if not most:
            return None
        none = ReadPicture(np.zeros((0, config.patch_values), np.float32), (0, 0))
        pictures = [picture for item in read
                    for picture in (*item.pictures, *[none] * (most - len(item.pictures)))]
        windows = max(len(window_layout(picture.grid, config)) for picture in pictures)
        tokens = max(len(picture.patches) for picture in pictures) // config.merge_size**2
        return arrange([(picture.patches, picture.grid) for picture in pictures], config,
                       num_windows=bucket(windows, _WINDOW_BUCKETS), num_tokens=bucket(tokens, _WINDOW_BUCKETS))
