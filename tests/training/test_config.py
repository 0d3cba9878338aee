import pytest

from experiments.tiny import experiment
from srum_jax.overrides import apply_overrides
from srum_jax.training.config import ModelSource, TrainingConfig


@pytest.mark.parametrize("field", ["steps", "log_every", "profile_first_step", "profile_steps"])
def test_numbers_are_positive(field):
    with pytest.raises(ValueError, match=rf"training\.{field}: expected a positive number, found 0\."):
        TrainingConfig(**{field: 0})


def test_a_profile_is_asked_for_by_its_first_step_or_not_at_all():
    assert apply_overrides(experiment(), ["training.profile_first_step=7"]).training.profile_first_step == 7
    assert apply_overrides(experiment(), ["training.profile_first_step=none"]).training.profile_first_step is None


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan"), float("inf")])
def test_training_times_are_shifted_by_a_positive_number(shift):
    with pytest.raises(ValueError, match=r"model\.timestep_shift: expected a positive number"):
        ModelSource(timestep_shift=shift)
