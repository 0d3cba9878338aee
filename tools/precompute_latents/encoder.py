"""Images to posteriors, as a training step computes them: on the canvas, with the autoencoder of a checkpoint.

D devices · K images of each of them in a batch · H, W pixels of the canvas · h, w latent cells · z channels of a latent
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.data.errors import CapacityError
from srum_jax.families.bagel.forward import encode
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.weights.load import load


class PosteriorEncoder:
    """Encodes batches of images on all devices of this process, each image on one of them.

    Args:
      checkpoint: a published checkpoint, or converted weights.
      canvas: height and width in pixels.
      dtype: "float32" or "bfloat16", of weights and activations.
      images_per_device: of a batch.

    Raises:
      WeightsError, ConfigError: see `open_checkpoint`.
    """

    def __init__(self, checkpoint: epath.PathLike, canvas: tuple[int, int], dtype: str, images_per_device: int):
        self.canvas = canvas
        self._mesh = build_mesh(MeshConfig(), jax.local_devices())
        opened = open_checkpoint(checkpoint, BAGEL, {"vae"})
        self.config, self.sha256 = opened.config, encoder_sha256(opened)
        graphdef, self._state = load(opened, mesh=self._mesh, dtype=dtype, only="vae")
        self._batch = (self._mesh.size, images_per_device)
        compute = ComputeConfig(dtype=dtype)

        def moments(state: nnx.State, images: jax.Array, size: jax.Array) -> jax.Array:
            # Float32 is meant: the default of TPUs multiplies in bfloat16, and this is done once for many runs.
            with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
                posterior = encode(nnx.merge(graphdef, state), images, size, compute)
            return jnp.concatenate([posterior.mean, posterior.logvar], axis=-1).astype(jnp.float16)

        self._moments = jax.jit(moments)

    @property
    def batch_size(self) -> int:
        """Images of a batch."""
        return self._batch[0] * self._batch[1]

    def start(self, images: Sequence[np.ndarray]) -> Callable[[], list[np.ndarray]]:
        """Hands a batch to the devices and does not wait for them.

        Args:
          images: uint8 [height, width, 3], each no larger than the canvas, as many as a batch has or fewer.

        Returns:
          What waits for the moments of each image, float16 [h, w, 2 z] of its own cells.

        Raises:
          CapacityError: an image is larger than the canvas; see `check`.
        """
        canvases = np.zeros((self.batch_size, *self.canvas, 3), np.uint8)
        sizes = np.zeros((self.batch_size, 2), np.int32)
        for place, image in enumerate(images):
            self.check(image)
            height, width = image.shape[:2]
            canvases[place, :height, :width] = image
            sizes[place] = height, width
        rows = NamedSharding(self._mesh, PartitionSpec(ROWS))
        placed = [jax.device_put(x.reshape(*self._batch, *x.shape[1:]), rows) for x in (canvases, sizes)]
        with jax.set_mesh(self._mesh):
            moments = self._moments(self._state, *placed)

        def result() -> list[np.ndarray]:
            values = np.asarray(moments)
            values = values.reshape(-1, *values.shape[2:])
            cells = sizes[: len(images)] // self.config.vae.downsample
            return [values[place, :height, :width] for place, (height, width) in enumerate(cells)]

        return result

    def check(self, image: np.ndarray) -> None:
        """Raises CapacityError if an image is larger than the canvas."""
        height, width = image.shape[:2]
        if height > self.canvas[0] or width > self.canvas[1]:
            raise CapacityError(f"its image has {width} x {height} pixels after the transform, the canvas "
                                f"{self.canvas[1]} x {self.canvas[0]}; raise rows.image_width and rows.image_height, "
                                "or lower rows.max_size")
