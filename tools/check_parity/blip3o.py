"""Which comparisons a case folder of BLIP3o calls for."""

from etils import epath

from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.weights.published import PublishedSource
from srum_jax.weights.weight_files import choose_files
from tools.check_parity import (
    blip3o_decoder,
    blip3o_features,
    blip3o_frozen,
    blip3o_language,
    blip3o_rewards,
    blip3o_training,
    blip3o_vision,
)
from tools.check_parity.model_case import Check, Results, check_case

# File of recorded tensors, without `golden_` and ending -> what recomputes them.
_CHECKS: dict[str, Check] = {
    "preprocess": blip3o_vision.check_preprocess,
    "vision": blip3o_vision.check_vision,
    "llm_text": blip3o_language.check_text,
    "llm_image": blip3o_language.check_image,
    "eva": blip3o_features.check_eva,
    "train": blip3o_training.check_train,
    "sampling": blip3o_features.check_sampling,
    "srum": blip3o_rewards.check_losses,
    "srum_grads": blip3o_rewards.check_gradients,
    "decoder": blip3o_decoder.check_decoder,
}


def check(directory: epath.PathLike) -> Results:
    """Recomputes whatever the folder holds.

    Args:
      directory: of weights with `golden_*` files and `freeze.json`.

    Raises:
      BadInput: it is no such folder.
    """
    return check_case(directory, BLIP3O, _CHECKS, {"freeze.json": blip3o_frozen.check}, _parts)


def _parts(directory: epath.Path) -> set[str]:
    """The optional parts that the model has and the case holds weights of."""
    shapes = BLIP3O.shapes(BLIP3O.read_config(directory), BLIP3O.parts)
    source = PublishedSource(choose_files(directory, BLIP3O, frozenset(BLIP3O.parts)))
    return {part for name in source.tensors if (part := BLIP3O.part_of(name)) is not None
            and any(parameter.startswith(f"{part}.") for parameter in shapes)}
