"""Made-up token layouts and batches for tests."""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, pack_sample
from srum_jax.mesh import on_mesh
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig, SpecialTokens, VisionConfig
from srum_jax.models.compute import MESH_AXES, ComputeConfig
from srum_jax.models.layers.token_stream import TokenStream
from srum_jax.objectives.config import RewardWeighted

CAUSAL, FULL, NOISE = 0, 1, 2


def small_config(**changes) -> BagelConfig:
    """A model that runs in milliseconds, with widths that eight ways divide."""
    fields = dict(
        llm=LanguageConfig(64, 64, 128, 3, 4, 2, 1e-6, 1e4, 512),
        vit=VisionConfig(32, 48, 2, 2, 56, 14, 3, 1e-6),
        vae=AutoencoderConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, z_channels=4, downsample=2),
        special_tokens=SpecialTokens(60, 61, 62, 63),
        max_latent_size=8,
        vit_max_num_patch_per_side=4,
    )
    return BagelConfig(**(fields | changes))


def stream(sample: np.ndarray, split: np.ndarray, mode: np.ndarray, position: np.ndarray | None = None) -> TokenStream:
    """A stream in logical order; all arguments [B, S], padding has sample -1."""
    order = np.broadcast_to(np.arange(sample.shape[1]), sample.shape)
    fields = dict(sample=sample, split=split, order=order, full=mode > 0, noise=mode == NOISE,
                  position=order if position is None else position)
    return TokenStream(**{name: jnp.asarray(value, jnp.int32) for name, value in fields.items()})


def random_stream(rng: np.random.Generator, rows: int, length: int) -> TokenStream:
    """Rows of samples of random splits and modes, with some padding at the end."""
    sample, split, mode = (np.full((rows, length), -1) for _ in range(3))
    for row in range(rows):
        place = number = 0
        for s in range(3):
            for _ in range(int(rng.integers(1, 5))):
                width = int(rng.integers(1, max(2, length // 8)))
                part = slice(place, min(place + width, length - 2))
                sample[row, part], split[row, part], mode[row, part] = s, number, rng.integers(0, 3)
                place, number = part.stop, number + 1
    return stream(sample, split, np.maximum(mode, 0))


def random_batch(config: BagelConfig, rows: int = 8, seed: int = 0, text: int = 10, side: int = 4) -> PackedBatch:
    """Rows of one text-to-image sample each: a few words, then a square noise image of `side` tokens a side."""
    rng = np.random.default_rng(seed)
    grid, pixels = (side, side), (side * config.latent_stride,) * 2
    capacity = RowCapacity(text=text, vit=0, latent=side * side, ce=0, images=1, image_height=pixels[0],
                           image_width=pixels[1], latent_stride=config.latent_stride, patch_values=588,
                           columns=RewardWeighted.columns)

    def row() -> PackedBatch:
        columns = {"alpha": np.full(grid, rng.uniform(), np.float32), "reward_map": rng.uniform(-1, 1, grid)}
        plan = (
            TextItem(rng.integers(0, 60, rng.integers(1, text - 4))),
            LatentItem(rng.integers(0, 256, (*pixels, 3)).astype(np.uint8), grid,
                       position_ids(*grid, config.max_latent_size), loss=True, columns=columns),
        )
        return pack_row([pack_sample(plan, config.special_tokens, Dropout(), rng)], capacity)

    return stack_rows([row() for _ in range(rows)])


def on_devices(batch: PackedBatch, mesh: jax.sharding.Mesh) -> PackedBatch:
    """A batch of the small model where a step wants it."""
    return jax.device_put(batch, on_mesh(mesh, BagelForward(small_config(), ComputeConfig()).layout(batch)))


def mesh_of(*shape: int) -> jax.sharding.Mesh:
    """A mesh data x fsdp x seq x tensor of virtual devices."""
    types = (jax.sharding.AxisType.Auto,) * 4
    return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=jax.devices()[: int(np.prod(shape))])
