"""A packed sequence as the reference stores it, laid out as our batch of one row."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.packing import RowBuilder, RowCapacity
from srum_jax.models.bagel.batch import PackedBatch, StepNoise
from srum_jax.models.layers.token_stream import TokenStream
from srum_jax.objectives.config import RewardWeighted
from tools.check_parity.tensors import Tensors

_FULL, _NOISE = 1, 2  # attention modes in the files; 0 is causal


@dataclasses.dataclass(frozen=True)
class GoldenBatch:
    """The batch, its noise, and where each buffer's tokens lie in the reference's sequence."""

    batch: PackedBatch
    noise: StepNoise
    text_places: np.ndarray  # [Ct]
    vit_places: np.ndarray  # [Cv]
    latent_places: np.ndarray  # [Cg]

    def in_sequence_order(self, und: np.ndarray, gen: np.ndarray) -> np.ndarray:
        """Und tokens (text, then vit) [U, ...] and gen tokens [G, ...] to the reference's order [S, ...]."""
        places = np.concatenate([self.text_places, self.vit_places, self.latent_places])
        out = np.empty((len(places), *gen.shape[1:]), gen.dtype)
        out[places] = np.concatenate([und, gen])
        return out


def golden_batch(inputs: Tensors, latent_patch_size: int, downsample: int) -> GoldenBatch:
    """Builds the batch from the tensors named `in.*` of a training case.

    Args:
      inputs: tensors without their `in.` prefix.
      latent_patch_size: latent cells per token, along each side.
      downsample: pixels per latent cell, along each side.
    """
    split_of = np.repeat(np.arange(len(inputs["split_lens"])), inputs["split_lens"])
    fields = {
        "sample": inputs["split_sample_ids"][split_of],
        "split": split_of,
        "order": np.arange(len(split_of)),
        "full": np.isin(inputs["attn_modes"], (_FULL, _NOISE))[split_of],
        "noise": (inputs["attn_modes"] == _NOISE)[split_of],
        "position": inputs["packed_position_ids"],
    }

    def stream(places: np.ndarray) -> TokenStream:
        return TokenStream(**{name: values[places][None].astype(np.int32) for name, values in fields.items()})

    text_places = inputs["packed_text_indexes"]
    vit_places = inputs.get("packed_vit_token_indexes", np.zeros(0, np.int32))
    latent_places = inputs["packed_vae_token_indexes"]
    images = np.moveaxis(inputs["padded_images"], 1, -1)[None]
    references = inputs.get("padded_gt_images")
    height, width = images.shape[2:4]
    ce_places = inputs.get("ce_loss_indexes", np.zeros(0, np.int32))
    text_slot = {place: slot for slot, place in enumerate(text_places)}
    rows_and_columns = inputs["patchified_vae_latent_shapes"]
    patches = inputs.get("packed_vit_tokens", np.zeros((0, 0), np.float32))
    stride = latent_patch_size * downsample
    capacity = RowCapacity(
        text=len(text_places), vit=len(vit_places), latent=len(latent_places), ce=len(ce_places),
        images=images.shape[1], image_height=height, image_width=width, latent_stride=stride,
        patch_values=patches.shape[1], float_images=True, samples=len(inputs["sample_lens"]),
        columns=RewardWeighted.columns)
    batch = dataclasses.replace(
        stack_rows([RowBuilder(capacity).finish()]),
        text=stream(text_places),
        text_ids=inputs["packed_text_ids"][None],
        vit=stream(vit_places),
        vit_patches=patches[None],
        vit_position_ids=inputs.get("packed_vit_position_ids", np.zeros(0, np.int32))[None],
        latent=stream(latent_places),
        latent_position_ids=inputs["packed_latent_position_ids"][None],
        latent_index=_latent_index(rows_and_columns, width // stride, height // stride)[None],
        timestep_logit=inputs["packed_timesteps_raw"][None],
        images=images,
        image_size=(rows_and_columns * stride)[None].astype(np.int32),
        reference_images=None if references is None else np.moveaxis(references, 1, -1)[None],
        ce_index=np.array([[text_slot[place] for place in ce_places]], np.int32).reshape(1, -1),
        ce_labels=inputs.get("packed_label_ids", np.zeros(0, np.int32))[None],
        ce_weights=inputs.get("ce_loss_weights", np.ones(len(ce_places), np.float32))[None],
    )
    noise = StepNoise(
        flow=jnp.asarray(inputs["noise"])[None],
        posterior=_cells_last(inputs["vae_noise"]),
        reference_posterior=_cells_last(inputs.get("vae_noise_gt", inputs["vae_noise"])),
    )
    return GoldenBatch(batch, noise, text_places, vit_places, latent_places)


def _cells_last(values: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(np.moveaxis(values, 1, -1))[None]


def _latent_index(shapes: np.ndarray, canvas_columns: int, canvas_rows: int) -> np.ndarray:
    """Where each token of images of `shapes` (rows, columns) lies in the row's padded grids."""
    index = [
        (m * canvas_rows + np.arange(rows)[:, None]) * canvas_columns + np.arange(columns)[None, :]
        for m, (rows, columns) in enumerate(shapes)
    ]
    return np.concatenate([i.reshape(-1) for i in index]).astype(np.int32)
