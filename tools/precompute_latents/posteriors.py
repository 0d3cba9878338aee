"""BAGEL's stored code: the autoencoder's posterior of an image, as training resizes it, on the canvas of its rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.data.errors import CapacityError
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.forward import encode
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.vae import Autoencoder
from srum_jax.models.compute import ComputeConfig


class Posteriors:
    """See `encoder.Coding`."""

    def __init__(self, rows: BagelRows, config: BagelConfig):
        """Takes sizes and canvas from the rows that will be trained.

        Raises:
          ValueError: sizes that do not go with the model.
        """
        row_capacity(rows, config)
        self.canvas, self._transform = (rows.image_height, rows.image_width), rows.transform
        self._stride = config.vae.downsample

    @property
    def settings(self) -> dict[str, Any]:
        """See `encoder.Coding`."""
        return {"transform": dataclasses.asdict(self._transform), "canvas": list(self.canvas)}

    def pixels(self, image: Image.Image) -> np.ndarray:
        """See `encoder.Coding`."""
        resized = self._transform.resize(image)
        height, width = resized.shape[:2]
        if height > self.canvas[0] or width > self.canvas[1]:
            raise CapacityError(f"its image has {width} x {height} pixels after the transform, the canvas "
                                f"{self.canvas[1]} x {self.canvas[0]}; raise rows.image_width and rows.image_height, "
                                "or lower rows.max_size")
        return resized

    def encode(self, vae: Autoencoder, images: jax.Array, size: jax.Array, compute: ComputeConfig) -> jax.Array:
        """See `encoder.Coding`; float16 [B, K, h, w, 2 z]."""
        posterior = encode(vae, images, size, compute)
        return jnp.concatenate([posterior.mean, posterior.logvar], axis=-1).astype(jnp.float16)

    def code(self, values: np.ndarray, size: tuple[int, int], sha256: bytes) -> StoredCode:
        """See `encoder.Coding`."""
        cells = tuple(slice(0, side // self._stride) for side in size)
        return StoredCode.of(POSTERIOR, values[cells], "float16", image=size, canvas=self.canvas,
                             encoder_sha256=sha256)
