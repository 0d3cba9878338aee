"""Rounds of the tiny BAGEL through the training loop: what is lost, what is refused, what is learnt from."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.suder_tiny_bagel import experiment as tiny_experiment
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.errors import BadInput, Failure
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.families.registry import family
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.objectives.config import (
    FlowPolicyGradient,
    FlowPreference,
    Joint,
    PolicyGradient,
    Preference,
    RewardWeighted,
)
from srum_jax.rollouts import candidates, source
from srum_jax.rollouts.audit import Fall
from srum_jax.rollouts.candidates import Group
from srum_jax.rollouts.source import check_rollouts, check_room
from srum_jax.training import loop
from srum_jax.training.config import ModelSource
from srum_jax.training.loop import train
from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.worlds.shapes.records import sample_example
from tests.families.janus_pro import tiny_checkpoint as tiny_janus


@pytest.fixture(scope="module", autouse=True)
def on_two_devices():
    """Rows are split over two: on all eight, most of a step's work would be empty rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build_mesh", lambda config: build_mesh(config, jax.devices()[:2]))
        yield


def picture(number):
    from experiments._tiny_bagel.samples import picture_of

    return picture_of(sample_example(3, number, 0.0, tidy=True))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "prompts.txt").write_text("a red circle left of a blue square\ntwo green triangles\na striped ring\n")
    (folder / "pictures").mkdir()
    for number in range(3):
        Image.fromarray(picture(number)).save(folder / "pictures" / f"{number}.png")
    return folder


def small(inputs, *, steps=4, **rollouts):
    """Two steps a round, of two prompts and two pictures, with four outputs each."""
    whole = tiny_experiment()
    settings = {"prompts": str(inputs / "prompts.txt"), "pictures": str(inputs / "pictures"), "prompts_per_round": 2,
                "pictures_per_round": 2, "group_size": 4, "steps_per_round": 2, "batch_size": 8,
                "rewards": dataclasses.replace(whole.rollouts.rewards, draws=2), "min_gap": 0.0,
                "sampler": FlowSampler(num_timesteps=3, guidance=Guidance(text_scale=1.0)),
                "caption": TextSampler(max_tokens=32, temperature=2.2), "audit_every": 0}
    return dataclasses.replace(
        whole, data=dataclasses.replace(whole.data, rows_per_batch=2),
        rows=dataclasses.replace(whole.rows, samples_per_row=4, images_per_row=4, text_capacity=160, vit_capacity=72,
                                 latent_capacity=72, ce_capacity=68),
        rollouts=dataclasses.replace(whole.rollouts, **settings | rollouts),
        training=dataclasses.replace(whole.training, steps=steps, save_every=2, log_every=1))


def parameters(workdir, step):
    arrays = OrbaxArrays(workdir / "checkpoints" / str(step))
    return {name: np.asarray(arrays.read(name)) for name in arrays.shapes}


def lines(workdir):
    return [{name: value for name, value in json.loads(line).items()
             if not name.startswith(("speed/", "time/", "memory/"))}
            for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert train(small(inputs, audit_every=1), workdir).finished
    return workdir


@pytest.mark.slow
def test_a_round_is_shared_by_its_steps_and_told_in_full(undisturbed):
    found = lines(undisturbed)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert all(line["rollouts/units"] >= 1 for line in found)
    for first, second in ((0, 1), (2, 3)):
        assert found[first]["rollouts/generation_reward"] < 0 > found[first]["rollouts/understanding_reward"]
        assert "rollouts/generation_reward" not in found[second]
    assert found[0]["rollouts/generation_reward"] != found[2]["rollouts/generation_reward"]
    assert any("preference/text_accuracy" in line for line in found)
    assert all(f"rollouts/generation_reward_gap_p{percent}" in found[0] for percent in (25, 50, 75))
    for line in found:  # |a + b|^2
        whole, one, other, cosine = (line[f"norm/gradient{name}"] for name in (
            "", "_generation", "_understanding", "_cosine"))
        np.testing.assert_allclose(whole**2, one**2 + other**2 + 2 * cosine * one * other, rtol=1e-3)
    assert any(abs(line["norm/gradient_cosine"]) > 1e-4 for line in found)


@pytest.mark.slow
def test_the_same_inputs_are_drawn_for_at_each_audit_and_told_from_the_initial_model(undisturbed):
    found = lines(undisturbed)
    assert found[0]["audit/generation_change"] == found[0]["audit/understanding_change"] == 0
    assert found[2]["audit/generation_change"] != 0  # two updates later
    assert "audit/generation_reward" not in found[1]
    for number in (0, 1):
        folder = undisturbed / "audit" / f"round_{number:05d}"
        told = [json.loads(line) for line in (folder / "generation.jsonl").read_text().splitlines()]
        assert [line["input"] for line in told] == ["prompt 0", "prompt 1", "prompt 2"]
        for line in told:
            assert all(Image.open(folder / name).size == (48, 48) for name in line["pictures"])
        told = [json.loads(line) for line in (folder / "understanding.jsonl").read_text().splitlines()]
        assert [line["input"] for line in told] == ["0.png", "1.png", "2.png"]
        assert all(len(line["captions"]) == len(line["rewards"]) == 2 for line in told)
    before, after = parameters(undisturbed, 2), parameters(undisturbed, 4)
    assert any(np.any(before[name] != after[name]) for name in before)


class Killed(Exception):
    pass


SLOW = pytest.mark.slow


@SLOW
def test_updates_that_share_a_round_are_clipped_about_its_first_weights_and_held_to_the_initial_ones(
    inputs, tmp_path, caplog
):
    policies = Joint(generation=FlowPolicyGradient(on_policy=False),
                     understanding=PolicyGradient(on_policy=False, kl_coefficient=0.01))
    chosen = small(inputs, steps=4)
    chosen = dataclasses.replace(chosen, objective=policies,
                                 data=dataclasses.replace(chosen.data, rows_per_batch=4),  # all members are learnt from
                                 optimizer=dataclasses.replace(chosen.optimizer, learning_rate=1e-3, warmup_steps=1))
    assert train(chosen, tmp_path).step == 4
    first, _, third, fourth = lines(tmp_path)  # the rate of the first update is 0
    for name in ("policy/text_ratio_most_off_one", "flow_policy/ratio_most_off_one"):
        assert max(first[name], third[name]) < 1e-4
        assert fourth[name] > 1e-3
    assert first["policy/text_kl"] < 1e-6 < fourth["policy/text_kl"]
    assert "expected at most" not in caplog.text


@SLOW
def test_pictures_of_a_flow_are_preferred_against_the_initial_model_under_one_noise(inputs, tmp_path):
    chosen = dataclasses.replace(small(inputs, steps=2, directions="generation"),
                                 objective=Joint(generation=FlowPreference(), understanding=Preference()))
    assert train(chosen, tmp_path).step == 2
    first = lines(tmp_path)[0]
    assert abs(first["flow_preference/margin"]) < 1e-3  # nothing has changed yet
    np.testing.assert_allclose(first["loss/flow_preference"], np.log(2), rtol=1e-3)


@SLOW
def test_directions_that_are_scaled_to_one_norm_learn_otherwise_and_go_on_where_they_were(
    inputs, undisturbed, tmp_path
):
    chosen = small(inputs)
    chosen = dataclasses.replace(chosen, objective=dataclasses.replace(chosen.objective, balance="norm"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(chosen, whole).step == 4
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "4")
    assert train(chosen, parts).step == 4 and lines(parts) == lines(whole)

    found, again, plain = parameters(whole, 4), parameters(parts, 4), parameters(undisturbed, 4)
    for name, values in found.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
    assert any(np.any(values != plain[name]) for name, values in found.items())
    norms = np.zeros(2)  # of pictures, of texts
    for line in lines(whole):
        new = np.array([line["norm/gradient_generation"], line["norm/gradient_understanding"]])
        counts = new > 1e-5 * new.max()
        norms = np.where(counts, np.where(norms > 0, 0.9 * norms + 0.1 * new, new), norms)
        expected = norms[0] / norms[1] if norms.all() else 1.0
        np.testing.assert_allclose(line["norm/understanding_scale"], expected, rtol=1e-4)
    assert abs(line["norm/understanding_scale"] - 1) > 0.1


def rounds(monkeypatch, *groups):
    """Every round has these groups."""
    monkeypatch.setattr(source, "draw_round", lambda *_: candidates.Round(groups, {}))


def alike(direction, problem=None):
    output = np.zeros((48, 48, 3), np.uint8) if direction == "generation" else "nothing"
    original = "a ring" if direction == "generation" else np.zeros((48, 48, 3), np.uint8)
    rewards = np.full(2, np.nan if problem else -1.0)
    code = StoredCode.of(POSTERIOR, np.zeros((12, 12, 16)), "float16", image=(48, 48), canvas=(48, 48),
                         encoder_sha256=bytes(32))
    return Group(direction, "one", original, (output, output), rewards, (problem, problem),
                 codes=(code, code) if direction == "generation" else None)


@pytest.mark.slow
def test_rewards_that_do_not_differ_end_the_run_after_some_rounds(inputs, tmp_path, monkeypatch):
    rounds(monkeypatch, alike("generation"), alike("understanding"))
    with pytest.raises(Failure, match=r"round 2: the rewards of 3 rounds did not differ.*rollouts\.group_size"):
        train(small(inputs, steps=8), tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [2, 4]


@pytest.mark.parametrize(("direction", "problem", "error", "message"), [
    ("understanding", "empty", BadInput, r"rollouts\.rewards\.request: round 0: no caption can be used \(empty 2\)"),
    pytest.param("generation", "not_finite", Failure,
                 r"round 0: generation: no output has a reward that is a number \(not_finite 2\)", marks=SLOW),
    pytest.param("understanding", "not_finite", Failure,
                 r"round 0: understanding: no output has a reward .*lower optimizer\.learning_rate", marks=SLOW),
])
def test_rounds_without_any_use_are_told(inputs, tmp_path, monkeypatch, direction, problem, error, message):
    rounds(monkeypatch, alike(direction, problem))
    with pytest.raises(error, match=message):
        train(small(inputs), tmp_path)


@SLOW
@pytest.mark.parametrize("stop", [True, False])
def test_a_clear_fall_in_the_eyes_of_the_initial_model_ends_the_run_or_is_a_warning(
    inputs, tmp_path, monkeypatch, caplog, stop
):
    monkeypatch.setattr(source.Audits, "run", lambda *_: ({}, [Fall("generation", -0.2, 0.01)]))
    rounds(monkeypatch, alike("generation"), alike("understanding"))
    said = r"before round 0: the initial model's reward of generation has fallen by 0\.2 .*rollouts\.scorer=initial"
    if stop:
        with pytest.raises(Failure, match=said):
            train(small(inputs, steps=2, audit_every=1), tmp_path)
    else:
        assert train(small(inputs, steps=2, audit_every=1, audit_stop=False), tmp_path).finished
        assert re.search(said, caplog.text)


@pytest.mark.parametrize(("changes", "message"), [
    ({"training": {"save_every": 3}}, r"training\.save_every: expected a multiple of rollouts\.steps_per_round 2"),
    ({"training": {"steps": 3}}, r"training\.steps: expected a multiple"),
    ({"model": {"parts": ()}}, r"model\.parts: rollouts need vit"),
    ({"rows": {"latents": "images"}}, r"rows\.latents: expected stored, .* found images"),
    ({"objective": {"understanding": PolicyGradient()}},
     r"objective\.understanding\.on_policy: expected false with rollouts\.steps_per_round 2"),
    ({"rollouts": {"scorer": "ema"}}, r"rollouts\.scorer: .*ema\.decay"),
    ({"rollouts": {"sampler": TextSampler()}}, r"rollouts\.sampler: expected FlowSampler, found TextSampler"),
    ({"objective": {"understanding": RewardWeighted()}}, r"objective: rollouts have no columns at all for underst"),
    ({"mesh": {"seq": 2}}, r"mesh\.seq: rollouts cannot split the tokens"),
    ({"rollouts": {"prompts": "nowhere.txt"}}, r"rollouts\.prompts: nowhere\.txt: no such file"),
    ({"rollouts": {"pictures": "nowhere"}}, r"rollouts\.pictures: expected a folder of pictures, found nowhere"),
])
def test_settings_that_do_not_go_together_are_named(inputs, changes, message):
    chosen = small(inputs)
    replaced = {name: dataclasses.replace(getattr(chosen, name), **value) for name, value in changes.items()}
    chosen = dataclasses.replace(chosen, **replaced)
    with pytest.raises(BadInput, match=message):
        check_rollouts(chosen, family("bagel"), build_mesh(chosen.mesh))


@pytest.mark.parametrize(("objective", "rollouts", "kept"), [
    (Joint(), {"audit_every": 0}, False),
    (Joint(), {"audit_every": 8}, True),
    (Joint(), {"audit_every": 0, "scorer": "initial"}, True),
    (Joint(understanding=PolicyGradient(kl_coefficient=0.01)), {"audit_every": 0}, True),
    (Joint(generation=FlowPreference()), {"audit_every": 0}, True),
    (Joint(understanding=PolicyGradient(on_policy=False)), {"audit_every": 0}, False),  # of the round, not of the run
])
def test_initial_weights_are_kept_where_something_needs_them(inputs, objective, rollouts, kept):
    chosen = dataclasses.replace(small(inputs, **rollouts), objective=objective)
    assert chosen.keeps_initial == kept
    trained = {"weight": jax.numpy.ones((2, 3))}
    found = source._weights(trained, "bfloat16", kept=kept)["weight"]
    assert isinstance(found, jax.Array) == kept and (found.shape, found.dtype) == ((2, 3), "bfloat16")
    assert found.sharding == trained["weight"].sharding


def test_members_of_a_step_need_a_slot_each(inputs):
    chosen = small(inputs)  # a step: four members of one prompt in two rows, and a pair of captions in one row
    check_room(chosen, 4)
    with pytest.raises(BadInput, match=r"rows\.samples_per_row: expected room for 4 members .*found 3 slots"):
        check_room(chosen, 3)
    check_room(small(inputs, directions="alternate"), 2)


def test_a_family_that_cannot_be_asked_is_refused(inputs):
    mute = dataclasses.replace(family("bagel"), scorer=None)
    with pytest.raises(BadInput, match="rollouts: models of the family bagel cannot be asked"):
        check_rollouts(small(inputs), mute, build_mesh(MeshConfig()))


def test_an_objective_that_the_pictures_do_not_serve_is_refused(inputs, tmp_path):
    with pytest.raises(BadInput, match=r"objective: PolicyGradient needs log probabilities of pictures"):
        train(dataclasses.replace(small(inputs), objective=PolicyGradient()), tmp_path)


@SLOW
def test_codes_are_learnt_as_they_were_drawn_and_both_rewards_are_exact(inputs, tmp_path, monkeypatch):
    chosen = small(inputs, steps=2, sampler=CodeSampler(guidance=1.0), caption=TextSampler(16, 1.0))
    chosen = dataclasses.replace(
        chosen, model=ModelSource(checkpoint=str(tiny_janus.shared()), parts=("vision",), trainable=("default",)),
        rows=JanusRows(samples_per_row=2, text_capacity=48, codes="stored", readings_per_row=2, reading_capacity=128,
                       answer_capacity=48),
        objective=Joint())
    monkeypatch.setattr(candidates, "TRUNCATED", None)  # this model, of random weights, never ends a caption
    learnt, drawn = [], []
    inner, pack = source.draw_round, source.pack_units
    monkeypatch.setattr(source, "draw_round", lambda *a: drawn.append(inner(*a)) or drawn[-1])
    monkeypatch.setattr(source, "pack_units", lambda *a: learnt.append(pack(*a)) or learnt[-1])
    assert train(chosen, tmp_path).step == 2
    codes = {tuple(code.array.reshape(-1).tolist()) for group in drawn[0].groups for code in group.codes or ()}
    rows = learnt[0].rows
    found = {tuple(row) for row, real in zip(rows.codes.reshape(-1, rows.codes.shape[-1]).tolist(),
                                             (rows.length > 0).reshape(-1), strict=True) if real}
    assert len(found) == 2 and found <= codes  # a pair
    first = lines(tmp_path)[0]
    assert np.log(1 / 64) * 3 < first["rollouts/understanding_reward"] < 0  # of 64 codes
    assert "preference/image_accuracy" in first


def test_a_run_over_records_cannot_compare_outputs(inputs, tmp_path):
    with pytest.raises(BadInput, match=r"objective: Joint compares several outputs.*rollouts"):
        train(dataclasses.replace(small(inputs), rollouts=None), tmp_path)


@SLOW
def test_outputs_do_not_depend_on_the_size_of_batches_beyond_rounding(inputs, monkeypatch, tmp_path):
    found = []
    inner = source.draw_round

    def noted(*arguments):
        found.append(inner(*arguments))
        raise Killed

    monkeypatch.setattr(source, "draw_round", noted)
    for size in (8, 16):
        with pytest.raises(Killed):
            train(small(inputs, batch_size=size), tmp_path / str(size))
    for one, other in zip(*(round_.groups for round_ in found), strict=True):
        assert jax.tree.map(np.shape, one.outputs) == jax.tree.map(np.shape, other.outputs)
        if one.direction == "understanding":
            assert one.outputs == other.outputs
        np.testing.assert_allclose(one.rewards, other.rewards, rtol=1e-3)
