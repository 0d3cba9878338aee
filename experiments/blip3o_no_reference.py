"""Ablation on BLIP3o: no reference term, lambda_c = 0.

    python -m srum_jax.train --experiment=blip3o_no_reference --workdir gs://BUCKET/runs/blip3o_no_reference \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed
from experiments._blip3o_recipe import blip3o_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The reward term alone."""
    return changed(blip3o_recipe("blip3o_no_reference"), objective={"reference_coefficient": 0.0})
