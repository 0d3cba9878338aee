"""Requests in, images out, in batches on a mesh of devices. Rows of a batch do not influence each other."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.errors import Failure
from srum_jax.families.bagel.conversation import Conversation, latent_slots, latent_width, patch_slots, text_slots
from srum_jax.families.bagel.flow_sampling import LatentLayout, denoise_schedule, guided_steps
from srum_jax.families.bagel.programs import DECODE_IMAGES, NOISE, SAMPLE_LATENTS, SAMPLE_STEP, finite_pixels
from srum_jax.families.bagel.request_reader import ReadImageRequest, RequestReader
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.inference.batch_shapes import fill_rows, filled, same_size
from srum_jax.inference.loaded import LoadedGenerator
from srum_jax.inference.programs import Program
from srum_jax.inference.protocols import OnPlan, OnStep
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import GeneratedImage, ImageRequest, each_read
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText


class BagelGenerator(LoadedGenerator):
    """See `Generator`."""

    reads = RequestReader

    def generate(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, on_step: OnStep | None = None,
        on_plan: OnPlan | None = None,
    ) -> list[GeneratedImage]:
        """See `Generator`. Edits form a batch of their own where the sampler guides them otherwise."""
        read = each_read(self.reader.image, requests)
        batches: dict[FlowSampler, list[int]] = {}
        for number, item in enumerate(read):
            sampler = self.sampler if item.source is None else self.sampler.of_edits()
            batches.setdefault(sampler.without_edits(), []).append(number)
        images: dict[int, GeneratedImage] = {}
        for sampler, numbers in batches.items():
            made = self._batch([read[number] for number in numbers], numbers, sampler, plan, on_step, on_plan)
            images |= dict(zip(numbers, made, strict=True))
        return [images[number] for number in range(len(read))]

    def _batch(
        self, read: list[ReadImageRequest], numbers: list[int], sampler: FlowSampler, plan: TextSampler | None,
        on_step: OnStep | None, on_plan: OnPlan | None,
    ) -> list[GeneratedImage]:
        count = len(read)
        read, active = filled(read, self.rows_multiple)
        sizes = [item.size for item in read]
        conversation, plans = self.image_contexts(
            read, active, sampler, plan,
            on_plan=None if on_plan is None else lambda texts: on_plan(dict(zip(numbers, texts, strict=False))))
        if on_step is None:
            latent, _ = self.sample(SAMPLE_LATENTS, conversation, read, sampler)
        else:
            latent = self._stepwise(conversation, read, sampler, lambda step, total, time, predicted: on_step(
                step, total, time, lambda: {number: pixels for number, (pixels, _) in
                                            zip(numbers, self._decode(predicted, sizes), strict=False)}))
        drawn = self._decode(latent, sizes)
        nobody = bytes(32)  # the latents come from no encoder
        return [
            GeneratedImage(pixels, *(plans[row] if plans else (None, False)), code=StoredCode.of(
                POSTERIOR, moments, "float16", image=size, canvas=size, encoder_sha256=nobody))
            for row, ((pixels, moments), size) in enumerate(zip(drawn[:count], sizes, strict=False))
        ]

    def image_contexts(
        self, read: list[ReadImageRequest], active: np.ndarray, sampler: FlowSampler, plan: TextSampler | None,
        kind: Callable[..., Conversation] = Conversation, on_plan: Callable[[list[str]], None] | None = None,
    ) -> tuple[Conversation, list[tuple[str, bool]] | None]:
        """Gives the model everything that precedes the image; in think mode also the plans, and whether cut short.

        Args:
          read: a multiple of `rows_multiple`.
          active: bool [B], which of them were asked for.
          sampler: of the images.
          plan: of the plans; None for none.
          kind: makes the conversation, which may look at what is added.
          on_plan: called while plans are written, with all of them.
        """
        tokenizer = self.opened.tokenizer
        texts = [item.prompt for item in read]
        sources, patches = [item.source for item in read], [item.patches for item in read]
        system = None
        if plan is not None:  # the templates are ours, and the plan is the model's: only prompts are read as mere text
            system = tokenizer.encode(self.opened.templates.think_generation, control_tokens=True)
        slots = text_slots(self.programs, texts)
        if any(sources):
            slots += latent_slots(sources) + patch_slots(patches)
        if plan is not None:
            slots += text_slots(self.programs, [system])
        image_guidance = sampler.guidance.branches == 3
        conversation = kind(self.programs, len(read), slots, image_guidance)
        seeds = [item.seed for item in read]
        if plan is not None:
            conversation.add_system([system] * len(read))
        if any(sources):
            conversation.add_latents(sources, random_keys(seeds, Use.POSTERIOR))
            conversation.add_patches(patches)
        conversation.add_text(texts)
        if plan is None:
            return conversation, None

        def texts(decoded: DecodedText) -> list[str]:
            return [tokenizer.decode(decoded.ids_of(row)) if active[row] else "" for row in range(len(read))]

        decoded = self.programs.fetch(conversation.write(
            random_keys(seeds, Use.TEXT), active, plan,
            None if on_plan is None else lambda decoded: on_plan(texts(decoded))))
        decoded.check_finite()
        written = texts(decoded)
        conversation.add_plan([tokenizer.encode(text, control_tokens=True) if text else [] for text in written])
        return conversation, [(text, not decoded.finished[row]) for row, text in enumerate(written)]

    def sample(
        self, program: Program, conversation: Conversation, read: list[ReadImageRequest], sampler: FlowSampler
    ) -> tuple[Any, LatentLayout]:
        """What `SAMPLE_LATENTS` makes behind a conversation, and where its tokens lie."""
        keys, layout = self._layout(read)
        branches = conversation.branches(sampler.guidance.branches)
        return self.programs.call(program, branches, keys, layout, sampler), layout

    def _stepwise(
        self, conversation: Conversation, read: list[ReadImageRequest], sampler: FlowSampler,
        on_step: Callable[[int, int, float, jax.Array], None],
    ) -> jax.Array:
        """The same, a program for each step; each is waited for and shown with the latents that it had in view."""
        keys, layout = self._layout(read)
        branches = conversation.branches(sampler.guidance.branches)
        latent, total = self.programs.call(NOISE, keys, layout), sampler.num_timesteps - 1
        schedule = map(np.asarray, denoise_schedule(sampler.num_timesteps, sampler.shift))
        for step, (guided, t, dt) in enumerate(zip(guided_steps(sampler), *schedule, strict=True)):
            latent, predicted = self.programs.call(
                SAMPLE_STEP, branches if guided else branches[:1], latent, layout, t, dt, sampler)
            jax.block_until_ready(latent)
            on_step(step, total, float(t), predicted)
        return latent

    def _layout(self, read: list[ReadImageRequest]) -> tuple[jax.Array, LatentLayout]:
        """Keys of the noise of each row, and where its latent tokens lie."""
        counts = np.array([len(item.position_ids) for item in read], np.int32)
        position_ids = np.zeros((len(read), latent_width(counts)), np.int32)
        for row, item in enumerate(read):
            position_ids[row, : counts[row]] = item.position_ids
        return random_keys([item.seed for item in read], Use.NOISE), LatentLayout(position_ids, counts)

    def _decode(self, latent: jax.Array, sizes: list[tuple[int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pixels of each row, uint8 [H, W, 3], and its `sure_moments`."""
        if not jnp.isfinite(latent).all():
            raise Failure("The sampled latents are not finite: expected numbers; the weights are damaged, or do "
                                 "not fit the dtype (try float32).")
        stride = self.programs.config.latent_stride
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for rows in same_size(sizes):
            height, width = (side // stride for side in sizes[rows[0]])
            decoded_rows = np.array(fill_rows(rows, self.rows_multiple))
            decoded = self.programs.call(DECODE_IMAGES, latent[decoded_rows, : height * width], height, width)
            found |= dict(zip(rows, zip(*self.programs.fetch(finite_pixels(decoded)), strict=True), strict=False))
        return [found[row] for row in range(len(sizes))]
