"""A model of every family at work on the page: it does what it can, and says of the rest that it cannot."""

import jax
import numpy as np
import pytest

from srum_jax.demo import showing
from srum_jax.demo.arguments import read_arguments
from srum_jax.demo.engine import Weighed
from srum_jax.demo.opening import open_engine
from srum_jax.rewards.reward_map import VARIANTS
from srum_jax.worlds.shapes.questions import JUDGE_TEMPLATES
from tests.families.tiny import TINY_BASES

pytestmark = pytest.mark.slow

# How each is opened: as the experiment that trains it would, in few steps.
WORDS = {
    "bagel": ("--experiment", "tiny_srum", "--set", "sampler.num_timesteps=4", "--set", "plan.max_tokens=12"),
    "blip3o": ("--set", "sampler.features.num_steps=2", "--set", "sampler.pixels.num_steps=2"),
    "janus_pro": ("--experiment", "tiny_janus_srum"),
}
UNABLE = {"bagel": {}, "blip3o": {"plan", "edit"}, "janus_pro": {"plan", "steps", "edit"}}
STEPS = {"bagel": 3, "blip3o": 2}


@pytest.fixture(scope="module", params=TINY_BASES, ids=lambda base: base.family)
def opened(request, tmp_path_factory):
    base = request.param
    words = WORDS[base.family]
    if "--experiment" not in words:  # random numbers do not end what they say
        short = "".join(f"\n[{name}]\nmax_new_tokens = 8\n" for name in ("identify", "local"))
        templates = tmp_path_factory.mktemp("templates") / "short.toml"
        templates.write_text(JUDGE_TEMPLATES.read_text() + short)
        words = ("--judge-templates", str(templates), *words)
    arguments, settings = read_arguments(
        ["--checkpoint", str(base.checkpoint()), "--dtype", "float32", "--provider", "components", "--set",
         "answer.max_tokens=4", *words])
    with pytest.MonkeyPatch.context() as patch:  # eight virtual devices that share a word at each token are slow
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        return base, open_engine(arguments.checkpoint, arguments, settings)


def told_by(work):
    """What work returns, and [(text, number of pictures, plans)] of what it told."""
    told = []
    result = work(lambda text, pictures=(), plans=(): told.append((text, len(pictures), list(plans))))
    return result, told


def test_what_it_cannot_do_is_greyed_out_with_the_reason_and_nothing_else_is(opened):
    base, engine = opened
    assert {name for name in ("draw", "plan", "steps", "edit", "ask", "judge")
            if getattr(engine.abilities, name) is not None} == set(UNABLE[base.family])
    assert len(showing.missing(engine.abilities)) == len(UNABLE[base.family])


def test_it_draws_and_tells_every_step_that_it_has(opened):
    base, engine = opened
    steps = engine.abilities.steps is None
    drawn, told = told_by(lambda tell: engine.draw(base.prompts[0], 3, 2, plan=False, steps=steps, tell=tell))
    assert [candidate.made.pixels.shape for candidate in drawn] == [(*engine.default_size, 3)] * 2
    total = STEPS.get(base.family, 0)
    assert told[1:] == [(f"step {number} of {total}", 2, []) for number in range(1, total + 1)]
    assert [len(candidate.frames) for candidate in drawn] == [total] * 2


def test_a_plan_is_seen_while_it_is_written(opened):
    base, engine = opened
    if engine.abilities.plan is not None:
        pytest.skip(engine.abilities.plan)
    drawn, told = told_by(lambda tell: engine.draw(base.prompts[0], 3, 2, plan=True, steps=False, tell=tell))
    plans = [texts for _, _, texts in told if texts]
    assert plans and plans[-1] == [candidate.made.plan for candidate in drawn]


def test_it_answers_judges_and_its_picture_is_weighed(opened):
    base, engine = opened
    answer, _ = told_by(lambda tell: engine.ask(base.picture, base.question, False, tell))
    assert isinstance(answer.text, str)
    (judged,), told = told_by(lambda tell: engine.judge([base.picture], base.prompts[0], "components", tell))
    assert any(text.startswith("judging: question 1") for text, *_ in told)
    assert judged.asked and set(judged.weighed) == set(VARIANTS)
    weighed = judged.weighed["official"]
    assert isinstance(weighed, Weighed), weighed
    assert weighed.weight.shape == (weighed.grid.rows, weighed.grid.columns) and np.isfinite(weighed.weight).all()
    assert showing.verdicts(judged) and showing.map_caption(weighed, engine.settings.objective)
