"""What each family stores of an image, as it is encoded in training."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from srum_jax.data.errors import CapacityError
from srum_jax.data.image_transform import to_rgb
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.families.bagel import forward as bagel
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.families.blip3o import forward as blip3o
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.rows import FEATURES, FEATURES_DTYPE
from srum_jax.families.janus_pro import forward as janus_pro
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.rows import CODES, CODES_DTYPE
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.vae import Autoencoder
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.patches import eva_crop
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.pictures import view_to_draw


@dataclasses.dataclass(frozen=True)
class Coding:
    """What a family stores of an image.

    Attributes:
      kind, dtype: of the code.
      canvas: height and width in pixels.
      pixels: of an image, uint8 [height, width, 3], no larger than the canvas; raises CapacityError if it cannot be.
      encode: the part that encodes, images uint8 [D, K, H, W, 3], their sizes int32 [D, K, 2] and a precision to values
        [D, K, ...].
      cell: pixels of a value along each side, where those beyond an image are not stored.
      transform: all that the pixels depend on besides the canvas; fit for JSON.
    """

    kind: str
    dtype: str
    canvas: tuple[int, int]
    pixels: Callable[[Image.Image], np.ndarray]
    encode: Callable[[nnx.Module, jax.Array, jax.Array, ComputeConfig], jax.Array]
    cell: int | None = None
    transform: Mapping[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that the codes depend on besides weights and precision; fit for JSON."""
        return {**({} if self.transform is None else {"transform": self.transform}), "canvas": list(self.canvas)}

    def code(self, values: np.ndarray, size: tuple[int, int], sha256: bytes) -> StoredCode:
        """What is stored of an image of that height and width, given its values and the checksum of the encoder."""
        if self.cell is not None:
            values = values[tuple(slice(0, side // self.cell) for side in size)]
        return StoredCode.of(self.kind, values, self.dtype, image=size, canvas=self.canvas, encoder_sha256=sha256)


def posteriors(rows: BagelRows, config: BagelConfig) -> Coding:
    """BAGEL's: the autoencoder's posterior of an image, as training resizes it, on the canvas of its rows.

    Values are float16 [h, w, 2 z].

    Raises:
      ValueError: sizes that do not go with the model.
    """
    row_capacity(rows, config)
    canvas = rows.image_height, rows.image_width

    def pixels(image: Image.Image) -> np.ndarray:
        resized = rows.transform.resize(image)
        height, width = resized.shape[:2]
        if height > canvas[0] or width > canvas[1]:
            raise CapacityError(f"its image has {width} x {height} pixels after the transform, the canvas "
                                f"{canvas[1]} x {canvas[0]}; raise rows.image_width and rows.image_height, "
                                "or lower rows.max_size")
        return resized

    def encode(vae: Autoencoder, images: jax.Array, size: jax.Array, compute: ComputeConfig) -> jax.Array:
        posterior = bagel.encode(vae, images, size, compute)
        return jnp.concatenate([posterior.mean, posterior.logvar], axis=-1).astype(jnp.float16)

    return Coding(POSTERIOR, "float16", canvas, pixels, encode, config.vae.downsample,
                  dataclasses.asdict(rows.transform))


def features(rows: Blip3oRows, config: Blip3oConfig) -> Coding:
    """BLIP3o's: pooled features of the middle of an image, by the EVA-CLIP tower, float16 [G, G, C]."""
    side = config.eva.image_size
    return Coding(FEATURES, FEATURES_DTYPE, (side, side), lambda image: eva_crop(image, side),
                  lambda tower, images, _, compute: blip3o.encode(tower, images, compute).astype(FEATURES_DTYPE))


def codes(rows: JanusRows, config: JanusConfig) -> Coding:
    """Janus-Pro's: indices of the codebook for the middle of an image, by the picture tokenizer, int32 [g, g].

    It computes in float32 always, but for weights that were rounded.
    """
    side, grid = config.vq.image_size, config.vq.grid
    return Coding(CODES, CODES_DTYPE, (side, side), lambda image: view_to_draw(to_rgb(image), side),
                  lambda vq, images, _, compute: janus_pro.encode(vq, images).reshape(*images.shape[:2], grid, grid))
