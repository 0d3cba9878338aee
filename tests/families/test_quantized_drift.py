"""What integer weights change in a model, bounded by what they change in its matrices.

Rounding to equal steps is off by a step / sqrt(12) in the root of the mean square: the error e of a matrix follows from
its largest numbers alone, and each product with it is off by e, independently of the others. A branch of a layer has at
most four products in a row, and a model here at most four layers in a row: independent errors add up in squares, to
sqrt(4) sqrt(4) e at most if no layer makes worse what came in, which norms see to.
`benchmarks.quantized_drift` measures the same, with more pictures.
"""

import functools

import jax
import numpy as np
import pytest
import qwix
from flax import nnx

from benchmarks._predictions import compute_of, matrix_error, predictions_of, relative_error, same_code
from experiments._tiny_bases.bases import BASES
from experiments._tiny_bases.measure import ask, draw
from srum_jax.data.example import stack_rows
from srum_jax.inference.requests import ImageRequest
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.models.layers.quantized import quantizable, quantize
from srum_jax.pipeline import Pipeline, load
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.questions import PICTURE_SIZE, SCORE_LEVELS, read_score, whole_question
from srum_jax.worlds.shapes.records import sample_example
from tests.families.loaded_base import LoadedBase
from tests.families.tiny import TINY_BASES

DTYPES = ("int8", "int4")
GREATEST = 4  # times e: see above
PICTURES = 32


@pytest.fixture(scope="module", params=TINY_BASES, ids=lambda tiny: tiny.family)
def base(request):
    return Rounded(request.param)


def rounded(state, dtype):
    names = quantizable(state)
    return nnx.from_flat_state([
        (path, variable.replace(qwix.dequantize(quantize(variable.get_value(), dtype)))
         if dotted(path) in names else variable)
        for path, variable in nnx.to_flat_state(state)])


class Rounded(LoadedBase):
    """A tiny base, and the same with rounded matrices, which are floats again: nothing is compiled for these."""

    def rounded(self, dtype):
        return rounded(self.loaded[1], dtype)

    def rounded_generator(self, dtype):
        architecture = self.family.architecture
        needed = open_checkpoint(self.path, architecture, architecture.parts_for({"draw", "read"}))
        return self.pipeline.generator.with_parameters(rounded(load_weights(needed)[1], dtype))

    def error(self, dtype):
        return matrix_error(self.loaded[1], dtype)

    @functools.cached_property
    def batch(self):
        return stack_rows([self.row(self.drawing(), self.reading())])

    @functools.cached_property
    def predict(self):
        """(parameters) -> predictions of the image tokens that count."""
        forward = self.family.forward(self.checkpoint.config, compute_of("float32"))
        predict = predictions_of(self.loaded[0], forward.scores)
        draws = forward.draws(jax.random.key(0), self.batch)
        mask = np.asarray(forward.masks(self.batch).image).ravel()
        return lambda state: (values := predict(state, self.batch, draws)).reshape(-1, values.shape[-1])[mask]

    @functools.cached_property
    def in_floats(self):
        return self.predict(self.loaded[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_are_off_by_what_the_matrices_are_off(base, dtype):
    error = base.error(dtype)
    change = relative_error(base.predict(base.rounded(dtype)), base.in_floats)
    assert error / GREATEST < change < GREATEST * error, (change, error)


def test_codes_turn_out_alike_but_where_two_are_about_as_likely(base):
    """Scores that are off by d, in the root of the mean square, move d / 2 of the probability at most; and of codes
    that are drawn with the same Gumbel noise, at most twice the share that was moved turn out otherwise."""
    if base.forward.image_error != "log_prob":
        pytest.skip("it draws no codes")
    change = GREATEST * base.error("int8") * np.sqrt(np.mean(base.in_floats**2))
    alike = same_code(base.predict(base.rounded("int8")), base.in_floats)
    assert 1 - change <= alike < 1 or alike == 1 > change, (alike, change)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_compute_what_their_matrices_say(base, dtype):
    """Up to the rounding of float32: else what the other tests here find holds for rounded floats alone."""
    integers = load_weights(base.checkpoint, quantize=dtype)[1]
    assert any(leaf.dtype == dtype for leaf in jax.tree.leaves(integers))
    draws = base.forward.draws(jax.random.key(0), base.batch)
    found, expected = (jax.device_get(base.compiled_scores(state, base.batch, draws))
                       for state in (integers, base.rounded(dtype)))
    masks = base.forward.masks(base.batch)
    for values, others, mask in ((found.image_error, expected.image_error, np.asarray(masks.image)),
                                 (found.text_log_prob, expected.text_log_prob, np.asarray(masks.text) > 0)):
        np.testing.assert_allclose(values[mask], others[mask], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_pipeline_with_integers_draws_what_its_matrices_say(base):
    pipeline = load(base.path, dtype="float32", attention="dense", mesh=MeshConfig(), devices=jax.devices()[:1],
                    quantize="int8")
    requests = [ImageRequest(prompt, seed=seed) for seed, prompt in enumerate(base.tiny.prompts)]
    pictures, others = (np.stack([image.pixels for image in asked.generate(requests)]).astype(float)
                        for asked in (pipeline, base.rounded_generator("int8")))
    assert np.abs(pictures - others).mean() < 1


@pytest.mark.slow
def test_pictures_that_follow_a_flow_change_little_in_eight_bits(base):
    """Guidance at scale s takes s times one velocity less s - 1 times another, both of which are off: less than four
    times as much at scales up to 3. What a path arrives at is noise less the sum of its velocities, whose spread is
    sqrt(2) times that of the pictures."""
    if base.forward.image_error != "flow":
        pytest.skip("where one code turns out otherwise, so does the rest of the picture")
    requests = [ImageRequest(prompt, seed=seed) for seed, prompt in enumerate(base.tiny.prompts)]
    pictures, others = (np.stack([image.pixels for image in asked.generate(requests)]).astype(float)
                        for asked in (base.pipeline.generator, base.rounded_generator("int8")))
    change = np.sqrt(np.mean((pictures - others) ** 2)) / np.std(pictures)
    assert 0 < change < 4 * np.sqrt(2) * GREATEST * base.error("int8"), change


class Trained(Rounded):
    """A base that draws and judges, and how it did in each precision."""

    def __init__(self, tiny):
        super().__init__(tiny)
        self.prompts = balanced_prompts(PICTURES // 8, 1001, held_out=True)
        self.examples = [sample_example(1001, number, 0.5, held_out=True) for number in range(PICTURES)]
        self.shown = [render(example.scene, PICTURE_SIZE).image for example in self.examples]
        self.in_float32 = self.right(self.pipeline.generator)

    def right(self, generator):
        """Bool [N] each: pictures that are drawn as they were asked for, and pictures that are judged rightly."""
        (kind,) = (kind for kind in BASES.values() if kind.family == self.tiny.family)
        pipeline = Pipeline(generator, self.family.answerer(generator.opened))
        drawn = draw(pipeline, self.prompts, kind.sampler(kind.guidance), 1001)
        fits = [judge_image(prompt, picture).correct for prompt, picture in zip(self.prompts, drawn, strict=True)]
        answers = ask(pipeline, [whole_question(prompt_text(example.prompt)) for example in self.examples], self.shown)
        judged = [(read_score(answer) == SCORE_LEVELS[-1]) == judge_image(example.prompt, picture).correct
                  for answer, example, picture in zip(answers, self.examples, self.shown, strict=True)]
        return np.array(fits), np.array(judged)


@pytest.fixture(scope="module", params=[tiny for tiny in TINY_BASES if tiny.family != "blip3o"],
                ids=lambda tiny: tiny.family)
def trained(request):
    return Trained(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_integers_change_in_pictures_and_verdicts_goes_either_way(trained, dtype):
    """If they make a model no worse, as much turns right as wrong: the difference stays within two standard deviations
    of a fair coin's. The aim for eight bits, which are to be used without a second thought: one in ten changes at most.
    """
    for before, after in zip(trained.in_float32, trained.right(trained.rounded_generator(dtype)), strict=True):
        assert before.mean() > 0.25
        lost, won = np.sum(before & ~after), np.sum(after & ~before)
        assert lost - won <= 2 * np.sqrt(lost + won), (lost, won)
        assert dtype != "int8" or lost + won <= PICTURES / 10, (lost, won)
