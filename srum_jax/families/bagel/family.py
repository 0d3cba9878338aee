"""BAGEL as a family."""

from srum_jax.families.bagel.answerer import BagelAnswerer
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.costs import BagelCosts
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.neurons import BagelNeurons
from srum_jax.families.bagel.request_reader import RequestReader
from srum_jax.families.bagel.rows import BagelPacker
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.bagel.scorer import BagelScorer
from srum_jax.families.family import Family
from srum_jax.models.bagel.architecture import BAGEL

FAMILY = Family(
    architecture=BAGEL, rows=BagelRows, packer=BagelPacker, forward=BagelForward, sampler=FlowSampler,
    checker=RequestReader, generator=BagelGenerator, answerer=BagelAnswerer, scorer=BagelScorer,
    neurons=BagelNeurons, plans=True, steps=True, costs=BagelCosts(),
)
