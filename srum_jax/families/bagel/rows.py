"""Examples as rows of BAGEL (SRUM, section 3.2).

    drawing     text(prompt, if it is not left out), then the picture's latents with a flow-matching loss
    reading     the picture's patches, text(question), text(answer) to be predicted
"""

import dataclasses
from typing import Any

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import Example, Picture, RandomDraws, Tokenizer
from srum_jax.data.stored_code import POSTERIOR
from srum_jax.errors import check
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.image_views import ImageViews, Resized, patch_view
from srum_jax.families.bagel.packing import RowBuilder, RowCapacity
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, TextItem, VitItem, pack_sample
from srum_jax.families.packer import ModelPacker
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.objectives.columns import NO_COLUMNS, ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid


def row_capacity(rows: BagelRows, model: BagelConfig, columns: ColumnNames = NO_COLUMNS) -> RowCapacity:
    """Buffers of a row.

    Raises:
      ValueError: sizes that do not go with the model.
    """
    for field in ("stride", "image_height", "image_width"):
        value = getattr(rows, field)
        check(f"rows.{field}", value % model.latent_stride == 0,
              f"a multiple of the {model.latent_stride} pixels of a latent token", value)
    side = model.max_latent_size * model.latent_stride
    check("rows.max_size", rows.max_size <= side or model.interpolate_pos,
          f"at most the {side} pixels that the model has positions for", rows.max_size)
    check("rows.vit_capacity", rows.vit_capacity == 0 or model.vit is not None, "0 for a model without a ViT",
          rows.vit_capacity)
    positions = rows.text_capacity + rows.images_per_row  # the most that one sample can use
    check("rows.text_capacity", positions <= model.llm.max_position_embeddings,
          f"at most the {model.llm.max_position_embeddings} rotary positions of the model, images included",
          rows.text_capacity)
    return RowCapacity(
        text=rows.text_capacity, vit=rows.vit_capacity, latent=rows.latent_capacity, ce=rows.ce_capacity,
        images=rows.images_per_row, image_height=rows.image_height, image_width=rows.image_width,
        latent_stride=model.latent_stride, patch_values=model.vit.patch_values if model.vit else 0,
        moment_channels=2 * model.vae.z_channels if rows.stored_codes else 0, moment_stride=model.vae.downsample,
        samples=rows.samples_per_row, columns=columns)


class BagelPacker(ModelPacker):
    """Makes rows of BAGEL."""

    encoder = "the encoder"
    otherwise = "leave the record out, or set rows.control_tokens=true"

    def __init__(self, rows: BagelRows, model: BagelConfig, tokenizer: Tokenizer | None, columns: ColumnNames,
                 encoder_sha256: bytes | None = None):
        super().__init__(rows, model, tokenizer, columns, encoder_sha256)
        self.capacity = row_capacity(rows, model, columns)

    def empty_row(self) -> "BagelRow":
        """A new row."""
        return BagelRow(self)

    def expected_code(self, picture: Picture) -> dict[str, Any]:
        """See `ModelPacker`: a posterior, float16 [h, w, 2 z]."""
        vae = self.model.vae
        width, height = self.rows.transform.target_size(picture.width, picture.height)
        return {
            "kind": POSTERIOR, "image_height": height, "image_width": width, "canvas_height": self.rows.image_height,
            "canvas_width": self.rows.image_width,
            "shape": (height // vae.downsample, width // vae.downsample, 2 * vae.z_channels), "dtype": "float16",
        }

    def sample(self, example: Example, draws: RandomDraws) -> PackedSample:
        """An example as tokens; exceptions as of `Row.add`."""
        plan = self._drawing(example) if example.kind == "drawing" else self._reading(example)
        sample = pack_sample(plan, self.model.special_tokens, Dropout(), draws)
        return dataclasses.replace(sample, text_columns=example.text_columns)

    def _drawing(self, example: Example) -> list[TextItem | LatentItem]:
        picture, transform = example.picture, self.rows.transform
        moments = self.stored(picture) if self.rows.stored_codes else None
        pixels = None if self.rows.stored_codes else transform.resize(picture.image())
        width, height = transform.target_size(picture.width, picture.height)
        stride, side = self.model.latent_stride, self.model.max_latent_size
        grid = Grid(height // stride, width // stride, Box(0, 0, picture.width, picture.height), width, height)
        if max(grid.rows, grid.columns) > side and not self.model.interpolate_pos:
            raise CapacityError(f"its image has {grid.rows} x {grid.columns} latent tokens after the transform, the "
                                f"model's position table {side} x {side}; lower rows.max_size or rows.stride")
        texts = [] if example.prompt_left_out else [TextItem(self._ids(example.prompt))]
        return [*texts, LatentItem(
            pixels=pixels,
            grid=(grid.rows, grid.columns),
            position_ids=position_ids(grid.rows, grid.columns, side, self.model.interpolate_pos),
            loss=True,
            columns=example.image_columns(grid),
            moments=moments,
        )]

    def _reading(self, example: Example) -> list[VitItem | TextItem]:
        if self.model.vit is None:
            raise CapacityError("it is a picture to be read, the model has no vision tower")
        views = ImageViews.of(self.model)
        patches = patch_view(Resized(example.picture.image(), views.latent), views, self.model)
        return [VitItem(patches.patches, patches.position_ids), TextItem(self._ids(example.prompt)),
                TextItem(self._ids(example.answer), loss=True)]

    def _ids(self, text: str) -> list[int]:
        return self.encode(text, control_tokens=self.rows.control_tokens)


class BagelRow:
    """A row while it is filled; see `data.example.Row`."""

    def __init__(self, packer: BagelPacker):
        self._packer, self._builder = packer, RowBuilder(packer.capacity)

    def add(self, example: Example, draws: RandomDraws) -> None:
        """See `Row.add`."""
        self._builder.add(self._packer.sample(example, draws))

    def finish(self) -> PackedBatch:
        """The row, without a leading batch axis."""
        return self._builder.finish()
