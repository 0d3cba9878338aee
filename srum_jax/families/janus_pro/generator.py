"""Requests in, pictures out: codes, then pixels. Rows do not influence each other."""

from collections.abc import Sequence

from srum_jax.data.stored_code import StoredCode
from srum_jax.errors import Failure
from srum_jax.families.janus_pro.code_sampling import Prompts
from srum_jax.families.janus_pro.programs import DECODE_CODES, DRAW_CODES
from srum_jax.families.janus_pro.request_reader import RequestReader
from srum_jax.families.janus_pro.rows import CODES, CODES_DTYPE
from srum_jax.inference.batch_shapes import bucket, filled
from srum_jax.inference.loaded import LoadedGenerator
from srum_jax.inference.protocols import OnPlan, OnStep
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import GeneratedImage, ImageRequest, RequestError, each_read
from srum_jax.inference.settings import TextSampler
from srum_jax.models.janus_pro.prompts import left_padded


class JanusGenerator(LoadedGenerator):
    """See `Generator`."""

    reads = RequestReader

    def generate(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, on_step: OnStep | None = None,
        on_plan: OnPlan | None = None,
    ) -> list[GeneratedImage]:
        """See `Generator`. There is neither a plan nor a picture in view before the last code is drawn."""
        for name, value in (("plan", plan), ("on_step", on_step), ("on_plan", on_plan)):
            if value is not None:
                raise RequestError(f"{name}: expected none, found one; Janus-Pro draws a picture's codes one after the "
                                   "other, without a plan and without a whole picture on the way.")
        if not requests:
            return []
        read, _ = filled(each_read(self.reader.image, requests), self.rows_multiple)
        codes, healthy = self.programs.call(
            DRAW_CODES, prompts_of([item.prompt for item in read], self.programs.config.special_tokens.pad),
            random_keys([item.seed for item in read], Use.NOISE), self.sampler)
        codes, healthy, (pixels, finite) = self.programs.fetch(
            (codes, healthy, self.programs.call(DECODE_CODES, codes)))
        if not (healthy.all() and finite):  # of which codes and uint8 keep no trace
            raise Failure("The scores of codes or the decoded pixels are not finite: expected numbers; the weights are "
                          "damaged, or do not fit the dtype (try float32).")
        vq = self.programs.config.vq
        size, nobody = (vq.image_size, vq.image_size), bytes(32)  # they come from no encoder
        return [
            GeneratedImage(image, None, code=StoredCode.of(
                CODES, sampled.reshape(vq.grid, vq.grid), CODES_DTYPE, image=size, canvas=size, encoder_sha256=nobody))
            for image, sampled in zip(pixels[: len(requests)], codes, strict=False)
        ]


def prompts_of(prompts: Sequence[Sequence[int]], pad: int) -> Prompts:
    """Prompts of any lengths as one batch."""
    return Prompts(*left_padded(prompts, bucket(max(map(len, prompts))), pad))
