"""Janus-Pro as a family."""

from srum_jax.families.family import Family
from srum_jax.families.janus_pro.answerer import JanusAnswerer
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.costs import JanusCosts
from srum_jax.families.janus_pro.forward import JanusForward
from srum_jax.families.janus_pro.generator import JanusGenerator
from srum_jax.families.janus_pro.request_reader import RequestReader
from srum_jax.families.janus_pro.rows import JanusPacker
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.families.janus_pro.scorer import JanusScorer
from srum_jax.models.janus_pro.architecture import JANUS_PRO

FAMILY = Family(
    architecture=JANUS_PRO, rows=JanusRows, packer=JanusPacker, forward=JanusForward, sampler=CodeSampler,
    checker=RequestReader, generator=JanusGenerator, answerer=JanusAnswerer, scorer=JanusScorer, costs=JanusCosts(),
)
