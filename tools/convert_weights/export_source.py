"""What an export reads: converted weights, or what a training run has saved."""

import dataclasses
import json

from etils import epath

from srum_jax.families.registry import recognise
from srum_jax.models.architecture import Architecture
from srum_jax.training.config import LoraConfig
from srum_jax.weights.arrays import ArrayReader, PublishedArrays
from srum_jax.weights.converted import ConvertedArrays, is_converted
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.merged import MergedArrays, factored_maps
from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.weights.run_folder import EMA, FORMS, find_step


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """Weights to be exported.

    Attributes:
      path: the directory that is really read; of a training run, the step.
      form: "raw", or "ema" for the average of the weights.
      arrays: what was trained or converted; of a LoRA run, the factors.
      of_run: whether a training run has saved them.
      lora: settings of the factors; None where there are none.
    """

    path: epath.Path
    form: str
    arrays: ArrayReader
    of_run: bool
    lora: LoraConfig | None = None

    def weights(self, base: PublishedArrays) -> ArrayReader:
        """The weights themselves: factors are merged into those of `base`."""
        if self.lora is None:
            return self.arrays
        return MergedArrays(base, self.arrays, self.lora.scale, base.plan.table)


def open_source(architecture: Architecture, path: epath.PathLike, form: str | None = None) -> ExportSource:
    """Opens what `--checkpoint` names.

    Args:
      architecture: of the model.
      path: converted weights, a training run's directory, its `checkpoints`, or one step of it.
      form: "raw" or "ema"; None takes the average if there is one.

    Raises:
      WeightsError: it is none of these, is damaged, or has no average although that is asked for.
    """
    path = epath.Path(path)
    if not path.exists():
        raise WeightsError(f"--checkpoint {path}: no such directory.")
    if is_converted(path):
        if form == "ema":
            raise WeightsError(f"--weights ema: {path} holds converted weights, which have no average beside them; "
                               "leave --weights away.")
        return ExportSource(path, "raw", ConvertedArrays(path, architecture), of_run=False)
    step = find_step(path)
    if step is None:
        if _is_published(path):
            raise WeightsError(f"--checkpoint {path}: expected converted weights or a training run, found a published "
                               "checkpoint: import it first (python -m tools.convert_weights import --source "
                               f"{path} --out DIR), and give the result.")
        raise WeightsError(
            f"--checkpoint {path}: expected converted weights (srum_weights.json), a training run's "
            "directory, its 'checkpoints', or one finished step of it; found none of these. An interrupted "
            "import or save leaves nothing that can be exported."
        )
    averaged = (step / EMA).exists()
    if form == "ema" and not averaged:
        raise WeightsError(f"--weights ema: {step} holds no average of the weights: the run was trained without ema. "
                           "Export with --weights raw.")
    form = form or ("ema" if averaged else "raw")
    arrays = OrbaxArrays(step, FORMS[form])
    return ExportSource(step, form, arrays, True, _lora(step) if factored_maps(arrays) else None)


def _is_published(path: epath.Path) -> bool:
    try:
        recognise(path)
    except WeightsError:
        return False
    return True


def _lora(step: epath.Path) -> LoraConfig:
    """The settings of the factors of a step, as the run noted them."""
    path, found = step / "meta" / "_strings.json", None
    try:
        found = json.loads(json.loads(path.read_text())["experiment"])
        return LoraConfig(**found["model"]["lora"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: settings of the run: expected model.lora, since the step holds low-rank factors; "
                           f"found {found!r} ({error}). Use another step.") from error
