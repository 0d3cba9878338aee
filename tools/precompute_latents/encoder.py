"""Images to codes, as a training step computes them, with the encoder of a checkpoint.

D devices · K images of each of them in a batch · H, W pixels of the canvas
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.data.config import Rows
from srum_jax.data.stored_code import StoredCode
from srum_jax.errors import BadInput
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.weights.load import load
from tools.precompute_latents.codings import Coding


class Encoder:
    """Encodes batches of images on all devices of this process, each image on one of them.

    Args:
      checkpoint: a published checkpoint, or converted weights.
      architecture: of the model.
      coding: (rows, configuration) -> what is stored.
      rows: that will be trained.
      dtype: "float32" or "bfloat16", of weights and activations.
      images_per_device: of a batch.

    Raises:
      WeightsError, ConfigError: see `open_checkpoint`.
      BadInput: sizes that do not go with the model.
    """

    def __init__(
        self, checkpoint: epath.PathLike, architecture: Architecture, coding: Callable[[Rows, Any], Coding],
        rows: Rows, dtype: str, images_per_device: int,
    ):
        self._mesh = build_mesh(MeshConfig(), jax.local_devices())
        part = architecture.encoder.partition(".")[0]
        opened = open_checkpoint(checkpoint, architecture, {part})
        try:
            self.coding = coding(rows, opened.config)
        except ValueError as error:
            raise BadInput(str(error)) from error
        self.sha256 = encoder_sha256(opened)
        graphdef, self._state = load(opened, mesh=self._mesh, dtype=dtype, only=part)
        self._batch = (self._mesh.size, images_per_device)
        compute = ComputeConfig(dtype=dtype)

        def values(state: nnx.State, images: jax.Array, size: jax.Array) -> jax.Array:
            # Float32 is meant: the default of TPUs multiplies in bfloat16, and this is done once for many runs.
            with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
                return self.coding.encode(nnx.merge(graphdef, state), images, size, compute)

        self._values = jax.jit(values)

    @property
    def batch_size(self) -> int:
        """Images of a batch."""
        return self._batch[0] * self._batch[1]

    def start(self, images: Sequence[np.ndarray]) -> Callable[[], list[StoredCode]]:
        """Hands a batch to the devices and does not wait for them; what it returns does.

        Args:
          images: what `Coding.pixels` made, as many as a batch has or fewer.
        """
        canvases = np.zeros((self.batch_size, *self.coding.canvas, 3), np.uint8)
        sizes = np.zeros((self.batch_size, 2), np.int32)
        for place, image in enumerate(images):
            height, width = image.shape[:2]
            canvases[place, :height, :width] = image
            sizes[place] = height, width
        rows = NamedSharding(self._mesh, PartitionSpec(ROWS))
        placed = [jax.device_put(x.reshape(*self._batch, *x.shape[1:]), rows) for x in (canvases, sizes)]
        with jax.set_mesh(self._mesh):
            values = self._values(self._state, *placed)

        def result() -> list[StoredCode]:
            found = np.asarray(values)
            return [self.coding.code(one, image.shape[:2], self.sha256)
                    for one, image in zip(found.reshape(-1, *found.shape[2:]), images, strict=False)]

        return result
