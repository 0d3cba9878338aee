import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from srum_jax.training.config import OptimizerConfig
from srum_jax.training.optimizer import learning_rate_schedule, make_optimizer
from tests.golden import golden_json, golden_tensors, model_cases

FIELDS = {"kind": "schedule", "warmup": "warmup_steps", "total": "total_steps", "lr": "learning_rate",
          "min_lr": "min_learning_rate"}


def test_the_rate_of_every_update_is_the_references():
    for case in golden_json("bagel/units/units.json")["lr"]:
        config = OptimizerConfig(**{field: case[name] for name, field in FIELDS.items()})
        rate, expected = learning_rate_schedule(config), np.array(case["lr_used_at_step"])
        np.testing.assert_allclose([rate(k) for k in range(len(expected))], expected, rtol=1e-12)
        on_device = jax.jit(jax.vmap(rate))(jnp.arange(len(expected)))
        np.testing.assert_allclose(on_device, expected, rtol=2e-6, atol=1e-12)


def test_the_cosine_stays_at_its_end():
    rate = learning_rate_schedule(OptimizerConfig(schedule="cosine", warmup_steps=2, total_steps=10))
    np.testing.assert_allclose([rate(10), rate(1000)], 1e-7)


def test_reading_the_rate_on_the_host_touches_no_device():
    with jax.transfer_guard("disallow"):
        assert float(learning_rate_schedule(OptimizerConfig())(250)) == pytest.approx(1.25e-5)


@pytest.mark.parametrize("case", model_cases("bagel"))
def test_a_step_from_the_stored_gradients_gives_the_stored_parameters(case):
    stored = golden_tensors(case / "train_t2i_adamw.safetensors")
    weights = golden_tensors(case / "ema.safetensors")
    rate, beta1, beta2, eps, clip, decay = (float(x) for x in stored["hp"][:6])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=rate, warmup_steps=0, beta1=beta1, beta2=beta2, eps=eps,
                                               clip_norm=clip, weight_decay=decay))
    prefix = "step1.clipped_grad."
    gradient = {name.removeprefix(prefix): jnp.asarray(value) for name, value in stored.items()
                if name.startswith(prefix)}
    parameters = {name: jnp.asarray(weights[name]) for name in gradient}
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(parameters), parameters)
    for name, value in optax.apply_updates(parameters, updates).items():
        np.testing.assert_allclose(value, stored[f"step1.param.{name}"], rtol=0, atol=1e-7, err_msg=name)
    assert len(gradient) >= 4


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_updates_equal_those_of_torch(decay):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(17, 5)).astype(np.float32)
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=4, weight_decay=decay)
    optimizer, rate = make_optimizer(config), learning_rate_schedule(config)
    ours, state = jnp.asarray(start), optimizer.init(jnp.asarray(start))
    theirs = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([theirs], lr=0.0, betas=(0.9, 0.95), eps=1e-15, weight_decay=decay)
    update = jax.jit(optimizer.update)
    for step in range(20):
        gradient = (rng.normal(size=start.shape) * 10.0 ** rng.integers(-6, 2)).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        reference.param_groups[0]["lr"] = float(rate(step))
        reference.step()
        updates, state = update(jnp.asarray(gradient), state, ours)
        ours = ours + updates
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-6)
    assert np.abs(np.asarray(ours) - start).max() > 1e-3


@pytest.mark.parametrize(("moment", "most"), [("first", 0.01), ("second", 0.005)])
def test_a_moment_in_bfloat16_follows_that_in_float32(moment, most):
    start, gradients = jnp.ones((17, 5)), jax.random.normal(jax.random.key(0), (20, 17, 5)) + 0.5
    ends = {}
    for dtype in ("float32", "bfloat16"):
        config = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, **{f"{moment}_moment_dtype": dtype})
        optimizer = make_optimizer(config)
        state, parameters = optimizer.init(start), start
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        moments = {"first": optax.tree_utils.tree_get(state, "mu"), "second": optax.tree_utils.tree_get(state, "nu")}
        assert moments.pop(moment).dtype == dtype and parameters.dtype == jnp.float32
        assert all(other.dtype == jnp.float32 for other in moments.values())
        ends[dtype] = parameters - start
    change = jnp.linalg.norm(ends["bfloat16"] - ends["float32"]) / jnp.linalg.norm(ends["float32"])
    assert 0 < change < most


@pytest.mark.parametrize("kind", ["normal", "alike", "rare", "falling"])
def test_a_second_moment_in_bfloat16_takes_steps_of_the_same_length_with_the_largest_beta2_that_is_allowed(kind):
    """Its error does not add up over many updates, whatever gradients are like."""
    updates, draws = 300, np.random.default_rng(0)
    gradients = draws.normal(size=(updates, 1000)).astype(np.float32)
    if kind == "alike":
        gradients = 1 + 0.1 * gradients
    if kind == "rare":
        gradients *= 7 * (draws.random(gradients.shape) < 0.02)
    if kind == "falling":
        gradients *= np.geomspace(1, 1e-3, updates, dtype=np.float32)[:, None]
    roots = []
    for dtype in ("float32", "bfloat16"):
        optimizer = make_optimizer(OptimizerConfig(beta2=0.95, second_moment_dtype=dtype, clip_norm=1e9))
        last = jax.lax.scan(lambda state, gradient, optimizer=optimizer: (
            optimizer.update(gradient, state, gradient)[1], None), optimizer.init(gradients[0]), gradients)[0]
        roots.append(np.sqrt(np.asarray(optax.tree_utils.tree_get(last, "nu"), np.float32)))
    some = roots[0] > 0
    error = roots[1][some] / roots[0][some] - 1
    assert 0 < np.sqrt(np.mean(error**2)) < 0.01 and abs(np.mean(error)) < 0.005


def test_a_parameter_without_gradient_stays_and_the_first_update_changes_nothing():
    config = OptimizerConfig(warmup_steps=2)
    optimizer = make_optimizer(config)
    parameters = {"used": jnp.ones(3), "idle": jnp.ones(3)}
    gradient = {"used": jnp.full(3, 1e-8), "idle": jnp.zeros(3)}
    state = optimizer.init(parameters)
    first, state = optimizer.update(gradient, state, parameters)
    second, _ = optimizer.update(gradient, state, parameters)
    assert not np.any(first["used"]) and np.all(second["used"] != 0) and not np.any(second["idle"])


@pytest.mark.parametrize("norm", [0.5, 1.0, 7.0])
def test_clipping_follows_the_rule_of_the_reference(norm):
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=0))
    gradient = jnp.asarray([0.6, 0.8], jnp.float32) * norm
    _, state = optimizer.update(gradient, optimizer.init(gradient), gradient)
    [(_, mean)] = optax.tree_utils.tree_get_all_with_path(state, "mu")
    np.testing.assert_allclose(mean, 0.1 * gradient * min(1.0, 1 / (norm + 1e-6)), rtol=4e-7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "linear"}, "expected constant or cosine, found 'linear'"),
        ({"schedule": "cosine"}, "optimizer.total_steps: expected more than warmup_steps 500"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate: expected a positive number"),
        ({"learning_rate": float("nan")}, "optimizer.learning_rate: expected a positive number"),
        ({"second_moment_dtype": "float16"}, r"optimizer\.second_moment_dtype: expected float32 or bfloat16"),
        ({"second_moment_dtype": "bfloat16", "beta2": 0.99},
         r"optimizer\.second_moment_dtype: expected float32 with beta2 above 0\.95, .*beta2 0\.99'"),
        ({"beta2": 1.0}, r"optimizer.beta2: expected a number in \[0, 1\)"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps: expected at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**fields)
