"""Ablation on BLIP3o: the weight of the reference term, given behind a colon; the paper's grid is 0, 0.25, 0.5, 1.

    python -m srum_jax.train --experiment=blip3o_lambda_sweep:0.25 --workdir gs://BUCKET/runs/blip3o_lambda_sweep \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed
from experiments._blip3o_recipe import blip3o_recipe
from srum_jax.experiment import ExperimentError
from srum_jax.training.experiment import Experiment


def experiment(reference_coefficient: str = "0.5") -> Experiment:
    """The recipe under another lambda_c, for instance `blip3o_lambda_sweep:0.25`; without a colon, the paper's 0.5."""
    try:
        weight = float(reference_coefficient)
    except ValueError:
        raise ExperimentError(
            f"blip3o_lambda_sweep: expected a number behind the colon, found {reference_coefficient!r}."
        ) from None
    name = f"blip3o_lambda_{weight:g}"
    return changed(blip3o_recipe(name), objective={"reference_coefficient": weight})
