"""Janus-Pro's stored code: indices of the codebook for the middle of an image, by the picture tokenizer."""

from typing import Any

import jax
import numpy as np
from PIL import Image

from srum_jax.data.image_transform import to_rgb
from srum_jax.data.stored_code import StoredCode
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.forward import encode
from srum_jax.families.janus_pro.rows import CODES, CODES_DTYPE
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.pictures import view_to_draw
from srum_jax.models.janus_pro.vq import VQ


class Codes:
    """See `encoder.Coding`."""

    def __init__(self, rows: JanusRows, config: JanusConfig):
        """The size of what the tokenizer sees is the model's alone."""
        self.canvas, self._grid = (config.vq.image_size,) * 2, config.vq.grid

    @property
    def settings(self) -> dict[str, Any]:
        """See `encoder.Coding`."""
        return {"canvas": list(self.canvas)}

    def pixels(self, image: Image.Image) -> np.ndarray:
        """See `encoder.Coding`."""
        return view_to_draw(to_rgb(image), self.canvas[0])

    def encode(self, vq: VQ, images: jax.Array, size: jax.Array, compute: ComputeConfig) -> jax.Array:
        """See `encoder.Coding`; int32 [B, K, g, g]. Always float32, but for weights that were rounded."""
        codes = encode(vq, images)
        return codes.reshape(*codes.shape[:2], self._grid, self._grid)

    def code(self, values: np.ndarray, size: tuple[int, int], sha256: bytes) -> StoredCode:
        """See `encoder.Coding`."""
        return StoredCode.of(CODES, values, CODES_DTYPE, image=size, canvas=self.canvas, encoder_sha256=sha256)
