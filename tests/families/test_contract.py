"""What every family promises to training, generation and judging, whatever its model is.

A new family is done when this passes for its tiny base, and its golden parity does.
"""

import dataclasses
import hashlib
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from srum_jax.data.example import stack_rows
from srum_jax.families.registry import NAMES, recognise
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.layers.logical_axes import shapes_by_name
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.token_scores import Columns
from srum_jax.pipeline import checker
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer
from tests.families.loaded_base import LoadedBase
from tests.families.tiny import TINY_BASES
from tools.convert_weights.export import export_weights
from tools.convert_weights.import_ import import_weights

GREEDY = TextSampler(max_tokens=8)


@pytest.fixture(scope="module", params=TINY_BASES, ids=lambda tiny: tiny.family)
def base(request):
    return LoadedBase(request.param)


def checksums(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in pathlib.Path(directory).rglob("*.safetensors")}


def test_every_family_has_a_tiny_base():
    assert {tiny.family for tiny in TINY_BASES} == set(NAMES)


def test_its_checkpoint_is_recognised_by_its_files(base):
    assert recognise(base.path) == base.tiny.family


@pytest.mark.slow
def test_weights_come_in_and_go_out_again_bit_for_bit(base, tmp_path):
    import_weights(base.checkpoint, tmp_path / "converted")
    export_weights(tmp_path / "converted", base.checkpoint, tmp_path / "exported")
    published, exported = checksums(base.path), checksums(tmp_path / "exported")
    assert {name: exported.get(name) for name in published} == published
    assert {*exported.values()} == {*published.values()}  # a further name is one for the same weights


def test_abstract_shapes_are_those_of_the_loaded_model(base):
    architecture = base.family.architecture
    _, abstract = architecture.abstract(base.checkpoint.config, base.checkpoint.parts)
    assert shapes_by_name(abstract) == {name: tuple(shape) for name, shape in shapes_by_name(base.loaded[1]).items()}


def test_every_trainable_preset_names_parameters_and_none_that_is_never_trained(base):
    architecture = base.family.architecture
    assert "default" in architecture.trainable
    assert not {*architecture.trainable["default"]} & {*architecture.never_trained}


@pytest.mark.slow
def test_a_tensor_that_no_parameter_takes_is_refused_by_name(base, tmp_path):
    copied = shutil.copytree(base.path, tmp_path / "copied")
    file = min(copied.glob("*.safetensors"))
    save_file({**load_file(file), "stranger.weight": np.zeros((2, 2), np.float32)}, file)
    with pytest.raises(WeightsError, match=r"stranger\.weight"):
        open_checkpoint(copied, base.family.architecture)


def test_a_row_has_the_shapes_of_an_empty_row(base):
    def forms(row):
        return jax.tree.map(lambda x: (x.shape, x.dtype), row)

    empty = forms(base.packer().empty_row().finish())
    assert forms(base.row(base.drawing(), base.reading())) == empty
    assert forms(base.row(base.drawing(), base.drawing(number=1))) == empty


def test_masks_of_an_empty_row_count_nothing(base):
    masks = base.forward.masks(stack_rows([base.packer().empty_row().finish()]))
    assert not np.any(masks.image) and not np.any(masks.text)
    assert np.all(np.asarray(masks.image_sample) == -1) and np.all(np.asarray(masks.text_sample) == -1)


def test_columns_lie_beside_the_tokens_that_count(base):
    batch = stack_rows([base.row(base.drawing(), base.reading())])
    masks = base.forward.masks(batch)
    assert np.array_equal(batch.image_columns["reward_map"] == 1, masks.image)
    assert np.array_equal(batch.text_columns["side"] == 1, np.asarray(masks.text) > 0)


@pytest.mark.slow
def test_an_answer_that_is_read_scores_alike_alone_and_behind_another_sample(base):
    alone, packed = (stack_rows([base.row(*examples)]) for examples in (
        [base.reading()], [base.reading("two green triangles"), base.reading()]))
    values = []
    for batch, sample in ((alone, 0), (packed, 1)):
        ours = (np.asarray(base.forward.masks(batch).text_sample) == sample)
        values.append(base.scores(batch).text_log_prob[ours])
    assert len(values[0])
    np.testing.assert_allclose(*values, rtol=0, atol=2e-4)
    assert (values[0] < 0).all()


def test_a_picture_that_is_drawn_scores_alike_alone_and_behind_another_sample(base):
    """Under random numbers that are the same at all places, since places differ."""
    alone = stack_rows([base.row(base.drawing())])
    packed = stack_rows([base.row(base.drawing(base.tiny.prompts[1], number=5), base.drawing())])
    values = []
    for batch, sample in ((alone, 0), (packed, 1)):
        draws = jax.tree.map(jnp.ones_like, base.forward.draws(jax.random.key(0), batch))
        ours = np.asarray(base.forward.masks(batch).image_sample) == sample
        values.append(base.scores(batch, draws).image_error[ours & np.asarray(base.forward.masks(batch).image)])
    assert len(values[0])
    np.testing.assert_allclose(*values, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_shares_of_micro_batches_add_up_to_the_loss_of_the_whole(base):
    batch = stack_rows([base.row(base.drawing(), base.reading()), base.row(base.drawing(number=3))])
    objective, draws = RewardWeighted(), base.forward.draws(jax.random.key(0), batch)
    masks, columns = base.forward.masks(batch), Columns(batch.image_columns, batch.text_columns)
    totals = objective_totals(objective, masks, columns)
    whole, _ = objective_loss(objective, base.scores(batch, draws), masks, columns, totals)
    shares = []
    for number in range(2):
        part, some = jax.tree.map(lambda x: x[number : number + 1], (batch, draws))  # noqa: B023
        share, _ = objective_loss(objective, base.scores(part, some), base.forward.masks(part),
                             Columns(part.image_columns, part.text_columns), totals)
        shares.append(share)
    assert float(sum(shares)) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.slow
def test_a_mesh_gives_the_same_scores_up_to_rounding(base):
    batch = stack_rows([base.row(base.drawing(number=n), base.reading()) for n in range(4)])
    mesh = build_mesh(MeshConfig(data=2, fsdp=2, tensor=2), jax.devices()[:8])
    with jax.set_mesh(mesh):
        spread = base.scores(batch, mesh=mesh)
    for found, expected in zip(jax.tree.leaves(spread), jax.tree.leaves(base.scores(batch)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-4 * max(1, np.abs(expected).max()))


def test_ones_for_a_reward_are_plain_fine_tuning(base):
    """SRUM under a reward of 1 everywhere without reference is the error alone, as in SFT towards the same code."""
    batch = stack_rows([base.row(base.drawing())])
    masks, columns = base.forward.masks(batch), Columns(batch.image_columns, batch.text_columns)
    scores = base.scores(batch)
    scores = dataclasses.replace(scores, reference_error=scores.image_error)
    losses = []
    for reward, reference in ((1.0, 0.0), (0.0, 1.0)):
        objective = RewardWeighted(reward_coefficient=reward, reference_coefficient=reference)
        totals = objective_totals(objective, masks, columns)
        losses.append(float(objective_loss(objective, scores, masks, columns, totals)[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx(float(np.mean(scores.image_error[np.asarray(masks.image)])), rel=1e-5)


def test_objectives_accept_its_errors_or_refuse_them_by_kind(base):
    assert base.forward.image_error in ("flow", "log_prob")
    RewardWeighted().check(base.forward.image_error)


@pytest.mark.slow
def test_equal_seeds_give_equal_images_and_other_seeds_others(base):
    first, again, other = (base.pipeline.generate([ImageRequest(base.tiny.prompts[0], seed=seed)])[0].pixels
                           for seed in (1, 1, 2))
    assert first.dtype == np.uint8 and first.shape == (*base.pipeline.generator.default_size, 3)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_batch(base):
    requests = [ImageRequest(prompt, seed=seed) for seed, prompt in enumerate(base.tiny.prompts)]
    together = base.pipeline.generate(requests)
    for request, image in zip(requests, together, strict=True):
        alone = base.pipeline.generate([request])[0].pixels
        assert np.abs(alone.astype(int) - image.pixels).max() <= 1


@pytest.mark.slow
def test_other_parameters_give_other_images_and_the_old_ones_give_the_old(base):
    request, architecture = ImageRequest(base.tiny.prompts[0], seed=1), base.family.architecture
    _, state = load_weights(open_checkpoint(base.path, architecture, architecture.parts_for({"draw", "read"})))
    changed = base.pipeline.generator.with_parameters(jax.tree.map(lambda x: x * 1.1, state))
    before = base.pipeline.generate([request])[0].pixels
    assert not np.array_equal(changed.generate([request])[0].pixels, before)
    assert np.array_equal(changed.with_parameters(state).generate([request])[0].pixels, before)


@pytest.mark.slow
def test_cached_decoding_follows_the_full_forward_pass(base):
    """Where two answers part, the greedy one goes on with the token that is likelier to the model as it is trained."""
    if base.pipeline.answerer is None:
        pytest.skip(f"{base.tiny.family} cannot be asked")
    sampled = [base.pipeline.answer([Question(base.tiny.question, (base.tiny.picture,), seed=seed)],
                                    sampler=TextSampler(max_tokens=8, temperature=3.0))[0].raw for seed in range(6)]
    greedy = base.pipeline.answer([Question(base.tiny.question, (base.tiny.picture,))], sampler=GREEDY)[0].raw
    tokenizer = load_tokenizer(base.path)
    compared = 0
    for other in {*sampled} - {greedy, ""}:
        ours, theirs = tokenizer.encode(greedy), tokenizer.encode(other)
        part = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        if part is None:
            continue
        log_probs = []
        for answer in (greedy, other):
            batch = stack_rows([base.row(base.reading(answer))])
            predicted = np.asarray(base.forward.masks(batch).text) > 0
            log_probs.append(base.scores(batch).text_log_prob[predicted])
        np.testing.assert_allclose(log_probs[0][:part], log_probs[1][:part], rtol=0, atol=2e-4)
        assert log_probs[0][part] > log_probs[1][part]
        compared += 1
    assert compared


@pytest.mark.parametrize("wrong", [
    {"prompt": ""}, {"seed": -1}, {"height": 7}, {"height": 10**6, "width": 10**6}], ids=str)
def test_checker_and_generator_refuse_the_same_requests_in_the_same_words(base, wrong):
    request = ImageRequest(**{"prompt": base.tiny.prompts[0], "seed": 0, **wrong})
    said = []
    for one in (checker(base.path), base.pipeline.generator):
        try:
            one.check(request)
            said.append(None)
        except RequestError as error:
            said.append(str(error))
    assert said[0] == said[1]
    assert checker(base.path).default_size == base.pipeline.generator.default_size
    if "seed" in wrong:
        assert said[0] is not None
