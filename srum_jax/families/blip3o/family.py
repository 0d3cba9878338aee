"""BLIP3o as a family."""

from srum_jax.families.blip3o.answerer import Blip3oAnswerer
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.costs import Blip3oCosts
from srum_jax.families.blip3o.forward import Blip3oForward
from srum_jax.families.blip3o.generator import Blip3oGenerator
from srum_jax.families.blip3o.request_reader import RequestReader, box_frame
from srum_jax.families.blip3o.rows import Blip3oPacker
from srum_jax.families.blip3o.sampler import PictureSampler
from srum_jax.families.family import Family
from srum_jax.models.blip3o.architecture import BLIP3O

FAMILY = Family(
    architecture=BLIP3O, rows=Blip3oRows, packer=Blip3oPacker, forward=Blip3oForward, sampler=PictureSampler,
    checker=RequestReader, generator=Blip3oGenerator, answerer=Blip3oAnswerer, box_frame=box_frame,
    steps=True, costs=Blip3oCosts(),
)
