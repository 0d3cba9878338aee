import pytest

from experiments.tiny import experiment
from srum_jax.overrides import apply_overrides
from srum_jax.training.config import TrainingConfig


@pytest.mark.parametrize("field", ["steps", "log_every", "profile_first_step", "profile_steps"])
def test_numbers_are_positive(field):
    with pytest.raises(ValueError, match=rf"training\.{field}: expected a positive number, found 0\."):
        TrainingConfig(**{field: 0})


def test_a_profile_is_asked_for_by_its_first_step_or_not_at_all():
    assert apply_overrides(experiment(), ["training.profile_first_step=7"]).training.profile_first_step == 7
    assert apply_overrides(experiment(), ["training.profile_first_step=none"]).training.profile_first_step is None
