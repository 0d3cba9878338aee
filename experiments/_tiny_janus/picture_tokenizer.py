"""Trains the picture tokenizer: first encoder and codebook, then the decoder that is stored.

The encoder's first two levels only bring the 4 x 4 pixels of a cell together, linearly, so training starts at the
third; a throw-away decoder at the resolution of the codes takes the place of the real one. No cell of the encoder looks
at another (but for the statistics of its normalisations): the same pixels then get the same code wherever they lie,
which makes codes easy to predict, and the decoder looks around instead. The codebook is the running mean, on the unit
sphere, of the cells that chose each row (van den Oord et al. 2017, appendix A.1); rows that hardly any cell chooses are
given to the cells that fit worst.

    loss = mean w |decode(z + stop(q - z)) - picture| + commitment * mean |z - stop(q)|^2

z: what the encoder gives, of length 1 · q: the nearest row of the codebook · w: higher on objects than on the ground
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments._tiny_bagel import autoencoder as ae
from experiments._tiny_bagel.varied_scenes import varied_scene
from experiments._tiny_bases.stage_state import StageState, Step, cosine_adam, make_step
from experiments._tiny_janus.settings import CodesSettings, PixelsSettings
from srum_jax.models.janus_pro.config import VQConfig
from srum_jax.models.janus_pro.vq import VQ, Encoder, ImageDecoder
from srum_jax.models.layers.autoencoder_blocks import PixelAttention
from srum_jax.models.layers.linear import Conv
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import CELLS, LARGE, SMALL, STEP, draft_of, lay_out_tidily
from srum_jax.worlds.shapes.prompts import sample_prompt
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.scene import COLORS, SHAPES, TEXTURES, Scene, Shape

_SIDES = (SMALL, 12, LARGE, LARGE)  # of objects on a full board, in steps
_CODED = 14 << 32  # added to the seed


class CellConv(Conv):
    """The middle of a convolution alone."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, in] to [B, h, w, out]."""
        kernel = self.kernel[...]
        flat = x.reshape(-1, x.shape[-1]) @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
        return (flat + self.bias[...][None]).reshape(*x.shape[:-1], -1)


class NoAttention(PixelAttention):
    """Attention that adds nothing."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] as it is."""
        return x


class CodesStage(nnx.Module):
    """The encoder from its third level on, and the throw-away decoder."""

    def __init__(self, config: VQConfig, *, rngs: nnx.Rngs):
        width = config.ch * config.ch_mult[1]
        self.gathered = nnx.Param(48**-0.5 * jax.random.normal(rngs.params(), (48, width)))
        self.encoder = Encoder(config, rngs=rngs)
        for _, module in nnx.iter_graph(self.encoder):
            if type(module) in _ALONE:
                module.__class__ = _ALONE[type(module)]
        self.decode = ae.DraftDecoder(config.code_width, 96, rngs=rngs)

    def directions(self, cells: jax.Array) -> jax.Array:
        """Pixels of cells [B, g, g, 48] to directions [B, g, g, e] of length 1."""
        encoder = self.encoder
        x = encoder.mid(encoder.down[2](cells @ self.gathered[...]))
        return unit(encoder.quant_conv(encoder.conv_out(jax.nn.silu(encoder.norm_out(x)))))


_ALONE = {Conv: CellConv, PixelAttention: NoAttention}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CodesState:
    """What a step of the first stage changes."""

    trained: StageState
    sums: jax.Array  # float32 [K, e], running means of the cells that chose each row, times their number
    counts: jax.Array  # float32 [K], running means of the numbers

    @property
    def step(self) -> jax.Array:
        """Of the state."""
        return self.trained.step


def unit(x: jax.Array) -> jax.Array:
    """Vectors [..., e] of length 1."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def make_codes_stage(
    config: VQConfig, settings: CodesSettings, seed: int
) -> tuple[CodesState, Callable[[CodesState], CodesStage], Step]:
    """The start of the first stage, what makes a module of a state, and the compiled step.

    A step takes the state and cells [B, g, g, 48] (see `autoencoder.cells_of`) to (state, losses).
    """
    graphdef, parameters = nnx.split(CodesStage(config, rngs=nnx.Rngs(seed)))
    optimizer = cosine_adam(settings.steps, settings.learning_rate)
    rows = unit(jax.random.normal(jax.random.key(seed), (config.codebook_size, config.code_width)))

    def loss_of(parameters: nnx.State, cells: jax.Array, codebook: jax.Array):
        model = nnx.merge(graphdef, parameters)
        z = model.directions(cells)
        chosen = jnp.argmax(jax.lax.stop_gradient(z) @ codebook.T, axis=-1)
        nearest = codebook[chosen]
        errors = ae.weighted_errors(model.decode(z + jax.lax.stop_gradient(nearest - z)), cells)
        apart = jnp.sum(jnp.square(z - nearest), axis=-1)
        return jnp.mean(errors) + settings.commitment * jnp.mean(apart), (z, chosen, apart, jnp.mean(errors))

    @jax.jit
    def step(state: CodesState, cells: jax.Array):
        codebook = unit(state.sums)
        (_, (z, chosen, apart, error)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.trained.parameters, cells, codebook)
        flat, ids, keep = z.reshape(-1, z.shape[-1]), chosen.reshape(-1), settings.keep
        added = jnp.zeros_like(state.counts).at[ids].add(1.0)
        counts = keep * state.counts + (1 - keep) * added
        sums = keep * state.sums + (1 - keep) * jnp.zeros_like(state.sums).at[ids].add(flat)
        # The n-th rare row is given to the cell that lies n-th farthest from its own.
        rare = counts < settings.rare
        _, worst = jax.lax.top_k(apart.reshape(-1), len(counts))
        given = flat[worst[jnp.clip(jnp.cumsum(rare) - 1, 0)]]
        last = state.step > 0.8 * settings.steps  # then the rows only settle
        rare = rare & ~last
        sums = jnp.where(rare[:, None], given, sums)
        counts = jnp.where(rare, 1.0, counts)
        trained = state.trained.after(gradient, optimizer, settings.average)
        losses = {"pixels": error, "apart": jnp.mean(apart), "used": jnp.sum(added > 0)}
        return CodesState(trained, sums, counts), losses

    def module(state: CodesState) -> CodesStage:
        stage = nnx.merge(graphdef, state.trained.average)
        stage.encoder.codebook.embedding[...] = unit(state.sums)
        return stage

    begin = CodesState(StageState.begin(parameters, optimizer), rows, jnp.full(config.codebook_size, 0.1))
    return begin, module, step


def make_pixels_stage(
    config: VQConfig, settings: PixelsSettings, seed: int
) -> tuple[StageState, Callable[[StageState], ImageDecoder], Step]:
    """The start of the second stage, what makes a decoder of a state, and the compiled step.

    The inputs of a step are rows of codes [B, g, g, e], and pictures [B, S, S, 3] in [-1, 1].
    """
    graphdef, parameters = nnx.split(ImageDecoder(config, rngs=nnx.Rngs(seed)))
    optimizer = cosine_adam(settings.steps, settings.learning_rate)

    def loss_of(parameters: nnx.State, inputs: tuple[jax.Array, jax.Array], _: jax.Array):
        rows, pictures = inputs
        loss = jnp.mean(ae.weighted_errors(nnx.merge(graphdef, parameters)(rows), pictures))
        return loss, {"pixels": loss}

    step = make_step(loss_of, optimizer, settings.average)
    return StageState.begin(parameters, optimizer), lambda state: nnx.merge(graphdef, state.average), step


def pictures_to_code(seed: int, count: int) -> np.ndarray:
    """Pictures of the world, with more of what is rare in it: uint8 [count, S, S, 3].

    Two fifths have an object in every cell of the board, two fifths are tidy, a quarter of them with objects that
    overlap, and the others are those that the tiny BAGEL's autoencoder learns from.
    """
    return np.stack([render(_scene_to_code(seed, number), PICTURE_SIZE).image for number in range(count)])


def _scene_to_code(seed: int, number: int) -> Scene:
    if number % 5 == 0:
        return varied_scene(seed, number)
    rng = np.random.Generator(np.random.Philox(key=[seed + _CODED, number]))
    if number % 5 < 3:
        return Scene(tuple(
            Shape(*(values[rng.integers(len(values))] for values in (SHAPES, COLORS, TEXTURES)),
                  (column + 0.5) / CELLS, (row + 0.5) / CELLS, int(rng.choice(_SIDES)) * STEP)
            for row, column in np.ndindex(CELLS, CELLS)))
    prompt = sample_prompt(rng, "3d-spatial" if rng.random() < 0.25 else None)
    scene = lay_out_tidily(draft_of(prompt, rng))
    return Scene(tuple(dataclasses.replace(shape, texture=TEXTURES[rng.integers(len(TEXTURES))])
                       if rng.random() < 0.5 else shape for shape in scene.shapes))


def complete(stage: CodesStage, decoder: ImageDecoder, vq: VQ) -> None:
    """Puts both trained halves into a picture tokenizer, whose first two levels bring pixels together."""
    nnx.update(vq.encoder, nnx.state(stage.encoder))
    ae.gather(vq.encoder, np.asarray(stage.gathered[...]))
    for _, module in nnx.iter_graph((vq.encoder.down[2], vq.encoder.mid, vq.encoder.conv_out)):
        if isinstance(module, PixelAttention):
            module.proj_out.kernel[...] = jnp.zeros_like(module.proj_out.kernel[...])
            module.proj_out.bias[...] = jnp.zeros_like(module.proj_out.bias[...])
        elif isinstance(module, Conv) and module.kernel[...].shape[0] == 3:
            module.kernel[...] = jnp.zeros_like(module.kernel[...]).at[1, 1].set(module.kernel[...][1, 1])
    nnx.update(vq.decoder, nnx.state(decoder))
