import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.families.bagel.guidance import guided_velocity
from srum_jax.families.bagel.sampler import FlowSampler, Guidance

RNG = np.random.default_rng(0)
COND, TEXT, IMAGE = (RNG.normal(size=(2, 5, 4)).astype(np.float32) for _ in range(3))
REAL = np.array([[True] * 5, [True] * 3 + [False] * 2])


def by_hand(row: int, count: int, guidance: Guidance, with_image: bool) -> np.ndarray:
    """One image without padding, in float64, straight from the formulas."""
    cond, text, image = (x[row, :count].astype(np.float64) for x in (COND, TEXT, IMAGE))
    u = text + guidance.text_scale * (cond - text)
    if guidance.renorm == "text_channel":
        for token in range(count):
            ratio = np.linalg.norm(cond[token]) / (np.linalg.norm(u[token]) + 1e-8)
            u[token] *= min(max(ratio, guidance.renorm_min), 1.0)
        return image + guidance.image_scale * (u - image) if with_image else u
    if with_image:
        u = image + guidance.image_scale * (u - image)
    if guidance.renorm == "global":
        return u * min(max(np.linalg.norm(cond) / (np.linalg.norm(u) + 1e-8), guidance.renorm_min), 1.0)
    return np.stack([
        u[t] * min(max(np.linalg.norm(cond[t]) / (np.linalg.norm(u[t]) + 1e-8), guidance.renorm_min), 1.0)
        for t in range(count)
    ])


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel"])
@pytest.mark.parametrize("with_image", [False, True])
@pytest.mark.parametrize("renorm_min", [0.0, 0.6])
def test_every_mode_follows_its_formula_image_by_image(renorm, with_image, renorm_min):
    guidance = Guidance(3.0, 1.5 if with_image else 1.0, (0.0, 1.0), renorm, renorm_min)
    found = guided_velocity(*map(jnp.asarray, (COND, TEXT)), jnp.asarray(IMAGE) if with_image else None,
                            jnp.asarray(REAL), guidance)
    for row, count in ((0, 5), (1, 3)):
        np.testing.assert_allclose(found[row, :count], by_hand(row, count, guidance, with_image), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("text", "image", "branches"), [(1.0, 2.0, 1), (0.5, 1.0, 1), (1.5, 1.0, 2), (4.0, 2.0, 3)])
def test_branches_of_scales_up_to_one_are_not_evaluated(text, image, branches):
    assert Guidance(text, image).branches == branches


@pytest.mark.parametrize(("arguments", "message"), [
    ({"renorm": "rms"}, "guidance.renorm: expected one of global, channel, text_channel; found 'rms'"),
    ({"interval": (0.8, 0.2)}, "guidance.interval: expected two times 0 <= low <= high"),
    ({"text_scale": float("nan")}, "guidance.text_scale: expected a number"),
    ({"renorm_min": 2.0}, r"guidance.renorm_min: expected a number in \[0, 1\], found 2.0"),
])
def test_settings_out_of_range_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**arguments)


def test_a_sampler_needs_two_times_and_a_positive_shift():
    with pytest.raises(ValueError, match="num_timesteps: expected an integer of at least 2, found 1"):
        FlowSampler(1)
    with pytest.raises(ValueError, match="shift: expected a positive number, found 0"):
        FlowSampler(shift=0.0)
