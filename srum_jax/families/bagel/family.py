"""BAGEL as a family."""

from srum_jax.families.bagel.costs import BagelCosts
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.family import Family
from srum_jax.models.bagel.architecture import BAGEL

FAMILY = Family(architecture=BAGEL, forward=BagelForward, costs=BagelCosts())
