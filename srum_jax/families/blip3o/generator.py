"""Requests in, pictures out: states at the queries, features, latents, pixels. Rows do not influence each other."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from srum_jax.errors import BadInput, Failure
from srum_jax.families.blip3o.flow_sampling import FeatureStep, feature_steps
from srum_jax.families.blip3o.programs import (
    DECODE_PIXELS,
    DRAW_FEATURES,
    DRAW_LATENTS,
    FEATURE_NOISE,
    FEATURE_STEP,
    QUERY_STATES,
)
from srum_jax.families.blip3o.request_reader import ReadImageRequest, RequestReader
from srum_jax.families.blip3o.sampler import PictureSampler
from srum_jax.inference.batch_shapes import bucket, fill_rows, filled, same_size
from srum_jax.inference.loaded import LoadedGenerator
from srum_jax.inference.opened import Opened
from srum_jax.inference.protocols import OnPlan, OnStep
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import GeneratedImage, ImageRequest, RequestError, each_read
from srum_jax.inference.settings import TextSampler
from srum_jax.models.blip3o.pixel_schedule import pixel_times
from srum_jax.models.blip3o.prompts import with_queries

# On each device. The U-Net's attention holds all scores of 4,096 pixels at once: more than a gigabyte for a picture.
PICTURES_AT_ONCE = 2


class Blip3oGenerator(LoadedGenerator):
    """See `Generator`."""

    reads = RequestReader

    def __init__(self, opened: Opened, sampler: PictureSampler):
        """Puts a loaded model to work; without its pixel decoder it refuses to draw."""
        super().__init__(opened, sampler)
        self._negative: jax.Array | None = None  # features, once they are known
        if opened.config.pixels is not None:
            try:
                pixel_times(opened.config.pixels.schedule, sampler.pixels.num_steps)
            except ValueError as error:
                raise BadInput(f"sampler.pixels.num_steps: {error}") from error

    def with_parameters(self, parameters: nnx.State) -> "Blip3oGenerator":
        """See `Generator`."""
        other = super().with_parameters(parameters)
        other._negative = None
        return other

    def with_sampler(self, sampler: PictureSampler) -> "Blip3oGenerator":
        """The same model, sampled otherwise."""
        other = super().with_sampler(sampler)
        other._negative = None
        return other

    def generate(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, on_step: OnStep | None = None,
        on_plan: OnPlan | None = None,
    ) -> list[GeneratedImage]:
        """See `Generator`. Steps are those of the features; the pictures that one has in view are drawn from them."""
        if plan is not None:
            raise RequestError("plan: expected none, found one; BLIP3o draws without a plan, so leave think mode off.")
        if not requests:
            return []
        read = each_read(self.reader.image, requests)
        rows, _ = filled(read, self.rows_multiple)
        prompts = [self.reader.drawing(item.caption, self.sampler.assistant_turn) for item in rows]
        seeds = [item.seed for item in rows]
        if on_step is None:
            features = self._features(prompts, seeds)
        else:
            features = self._stepwise(prompts, seeds, lambda step, total, time, in_view: on_step(
                step, total, time, lambda: dict(enumerate(self._pixels(in_view, read)))))
        return [GeneratedImage(pixels, None) for pixels in self._pixels(features, read)]

    def _features(self, prompts: list[list[int]], seeds: list[int]) -> jax.Array:
        """What is drawn for texts, one for each row of a batch: [B, G, G, C]."""
        keys = random_keys(seeds, Use.NOISE)
        return self.programs.call(DRAW_FEATURES, self._condition(prompts), keys, self.sampler.features)

    def _stepwise(
        self, prompts: list[list[int]], seeds: list[int], on_step: Callable[[int, int, float, jax.Array], None]
    ) -> jax.Array:
        """The same, a program for each step; each is waited for and shown with the features that it had in view."""
        condition, sampler = self._condition(prompts), self.sampler.features
        features = self.programs.call(FEATURE_NOISE, random_keys(seeds, Use.NOISE))
        for step, times in enumerate(map(FeatureStep._make, zip(*feature_steps(sampler), strict=True))):
            features, in_view = self.programs.call(FEATURE_STEP, features, condition, times, sampler)
            jax.block_until_ready(features)
            on_step(step, sampler.num_steps, float(times.sigma), in_view)
        return features

    def _condition(self, prompts: list[list[int]]) -> jax.Array:
        """States at the queries, which the features are drawn from."""
        config = self.programs.config
        width = bucket(max(map(len, prompts)) + config.num_queries + 1)
        batch = with_queries(prompts, config, width)
        return self.programs.call(QUERY_STATES, batch.ids, batch.real, batch.first_query)

    def _pixels(self, features: jax.Array, read: list[ReadImageRequest]) -> list[np.ndarray]:
        """The picture of each request, uint8 [H, W, 3], from features [at least as many, G, G, C]."""
        if not jnp.isfinite(features).all():
            raise Failure("The drawn features are not finite: expected numbers; the weights are damaged, or do not fit "
                          "the dtype (try float32).")
        keys = random_keys([item.seed for item in read], Use.NOISE)
        at_once = PICTURES_AT_ONCE * self.rows_multiple
        pictures: dict[int, np.ndarray] = {}
        for group in same_size([item.size for item in read]):
            for start in range(0, len(group), at_once):
                numbers = group[start : start + at_once]
                rows = np.array(fill_rows(numbers, self.rows_multiple))
                latent = self.programs.call(DRAW_LATENTS, features[rows], self._negative_features(), keys[rows],
                                            read[numbers[0]].size, self.sampler.pixels)
                pixels, finite = self.programs.call(DECODE_PIXELS, latent)
                if not finite:  # of which uint8 keeps no trace
                    raise Failure("The decoded pixels are not finite: expected numbers; the pixel decoder's weights "
                                  "are damaged, or do not fit the dtype (try float32).")
                pictures |= dict(zip(numbers, np.asarray(pixels), strict=False))
        return [pictures[number] for number in range(len(read))]

    def _negative_features(self) -> jax.Array:
        """What the pixel decoder is guided away from, [1, G, G, C]: the same for all pictures."""
        if self._negative is None:
            rows = self.rows_multiple
            drawn = self._features([self.reader.negative()] * rows, [self.sampler.negative_seed] * rows)
            self._negative = drawn[:1]
        return self._negative
