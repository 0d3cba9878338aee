"""BLIP3o's stored code: pooled features of the middle of an image, by the EVA-CLIP tower."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.data.stored_code import StoredCode
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.forward import encode
from srum_jax.families.blip3o.rows import FEATURES, FEATURES_DTYPE
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.eva import EvaTower
from srum_jax.models.blip3o.patches import eva_crop
from srum_jax.models.compute import ComputeConfig


class Features:
    """See `encoder.Coding`."""

    def __init__(self, rows: Blip3oRows, config: Blip3oConfig):
        """The size of what the tower sees is the model's alone."""
        self.canvas = (config.eva.image_size,) * 2

    @property
    def settings(self) -> dict[str, Any]:
        """See `encoder.Coding`."""
        return {"canvas": list(self.canvas)}

    def pixels(self, image: Image.Image) -> np.ndarray:
        """See `encoder.Coding`."""
        return eva_crop(image, self.canvas[0])

    def encode(self, tower: EvaTower, images: jax.Array, size: jax.Array, compute: ComputeConfig) -> jax.Array:
        """See `encoder.Coding`; float16 [B, K, G, G, C]."""
        return encode(tower, images, compute).astype(jnp.dtype(FEATURES_DTYPE))

    def code(self, values: np.ndarray, size: tuple[int, int], sha256: bytes) -> StoredCode:
        """See `encoder.Coding`."""
        return StoredCode.of(FEATURES, values, FEATURES_DTYPE, image=size, canvas=self.canvas, encoder_sha256=sha256)
