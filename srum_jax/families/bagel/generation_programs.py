"""The programs of generation over arrays that exist by shape and layout alone.

Four programs make an image and its plan: "prefill" reads the prompt, "decode" writes the plan, "denoise" samples the
latents and "pixels" decodes them. Between them the model's weights and the context stay on the devices.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.errors import BadInput
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.programs import DECODE_IMAGES, PREFILL_TEXT, SAMPLE_LATENTS, WRITE_TEXT
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import abstract_bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, named_shardings
from srum_jax.models.layers.sharding import RULES

PROGRAM_NAMES = ("prefill", "decode", "denoise", "pixels")
_PLAN, _SAMPLER = TextSampler(), FlowSampler()


@dataclasses.dataclass(frozen=True)
class GenerationShape:
    """What is to be generated, as far as it fixes the programs."""

    rows: int  # images in one batch
    prompt_tokens: int = 254  # of the longest prompt; its two markers and the padding to a bucket come on top
    height: int = 1024  # pixels
    width: int = 1024
    sampler: FlowSampler = _SAMPLER
    text: TextSampler = _PLAN

    @property
    def prompt_slots(self) -> int:
        """Slots of the context."""
        return bucket(self.prompt_tokens + 2)

    def check(self, config: BagelConfig) -> None:
        """Raises BadInput, naming the field, where the model cannot make that."""
        most = config.max_latent_size * config.latent_stride
        for name in ("height", "width"):
            side = getattr(self, name)
            if side % config.latent_stride or not 0 < side <= most:
                raise BadInput(f"{name}: expected a multiple of {config.latent_stride} pixels, at most {most}; found "
                               f"{side}.")

    def latent_grid(self, config: BagelConfig) -> tuple[int, int]:
        """Latent tokens along the sides."""
        return self.height // config.latent_stride, self.width // config.latent_stride

    def latent_tokens(self, config: BagelConfig) -> int:
        """Latent tokens of one image."""
        rows, columns = self.latent_grid(config)
        return rows * columns


def abstract_programs(
    config: BagelConfig, mesh: Mesh, *, dtype: str = "bfloat16", attention: str = "splash", understanding: bool = True
) -> tuple[Programs, nnx.State]:
    """What `srum_jax.pipeline.load` makes of a checkpoint, and its state, without the values.

    Raises:
      BadInput: if the mesh does not divide the weights.
    """
    graphdef, abstract = abstract_bagel(config, with_vit=understanding)
    layout = named_shardings(abstract, mesh, RULES)

    def struct(path, leaf, sharding):
        stays = path[0] == "vae"
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32 if stays else jnp.dtype(dtype), sharding=sharding)

    shardings = dict(nnx.to_flat_state(layout))
    state = nnx.from_flat_state([
        (path, variable.replace(struct(path, variable.get_value(), shardings[path].get_value())))
        for path, variable in nnx.to_flat_state(abstract)
    ])
    return Programs(graphdef, state, mesh, ComputeConfig(dtype=dtype, attention=attention, remat="none")), state


def abstract_context(programs: Programs, rows: int, capacity: int) -> Context:
    """A context with the layout that `prefill_text` leaves it in."""
    llm = programs.config.llm
    context = jax.eval_shape(lambda: empty_context(llm, rows, capacity, programs.compute.compute_dtype))
    heads = "tensor" if llm.num_kv_heads % programs.mesh.shape["tensor"] == 0 else None

    def struct(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = {5: (None, ROWS, None, heads), 2: (ROWS,), 1: (ROWS,), 0: ()}[leaf.ndim]
        return _struct(programs.mesh, leaf.shape, leaf.dtype, *spec)

    return jax.tree.map(struct, context)


def lower_program(programs: Programs, name: str, shape: GenerationShape) -> jax.stages.Lowered:
    """One program, ready to be compiled.

    Args:
      programs: from `abstract_programs`.
      name: one of `PROGRAM_NAMES`.
      shape: rows must be a multiple of `programs.rows_multiple`.
    """
    return programs.lower(_PROGRAMS[name], *program_arguments(programs, name, shape))


def program_arguments(programs: Programs, name: str, shape: GenerationShape) -> tuple:
    """The arguments of a program besides the model's state."""
    config, rows = programs.config, shape.rows

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return _struct(programs.mesh, (rows, *sizes), dtype, ROWS)

    if name == "pixels":
        latent = array(shape.latent_tokens(config), config.latent_values, dtype=jnp.float32)
        return (latent, *shape.latent_grid(config))
    context = abstract_context(programs, rows, shape.prompt_slots)
    if name == "prefill":
        return context, array(shape.prompt_slots), array()
    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    if name == "decode":
        return context, keys, array(dtype=bool), shape.text
    layout = LatentLayout(array(shape.latent_tokens(config)), array())
    return [context] * shape.sampler.guidance.branches, keys, layout, shape.sampler


_PROGRAMS = {"prefill": PREFILL_TEXT, "decode": WRITE_TEXT, "denoise": SAMPLE_LATENTS, "pixels": DECODE_IMAGES}


def _struct(mesh: Mesh, shape: tuple[int, ...], dtype, *axes) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes)))
