"""The autoencoder of a checkpoint without the rest of it, and a checksum that says whose posteriors are whose."""

import hashlib

import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.vae import Autoencoder
from srum_jax.weights.arrays import open_arrays
from srum_jax.weights.load import load_state
from srum_jax.weights.model_kind import BAGEL

_PARTS = {"vit": False, "vae": True}
_PART = "vae"
_ENCODER = f"{_PART}.encoder."


def load_autoencoder(
    source_dir: epath.PathLike, *, mesh: Mesh | None = None, dtype: str = "float32"
) -> tuple[BagelConfig, Autoencoder]:
    """Loads the autoencoder alone; of the checkpoint's other weights only names and shapes are read.

    Args:
      source_dir: a published checkpoint (directory or safetensors file), or converted weights.
      mesh: of which every device gets a copy; None for the default device.
      dtype: "float32" or "bfloat16".

    Returns:
      The configuration of the whole model, and its autoencoder.

    Raises:
      WeightsError, ConfigError: as `load_bagel`.
    """
    config, arrays = open_arrays(source_dir, BAGEL, _PARTS)
    _, abstract = BAGEL.abstract(config, _PARTS)
    wanted = nnx.from_flat_state([(path, leaf) for path, leaf in nnx.to_flat_state(abstract) if path[0] == _PART])
    state = load_state(arrays, wanted, mesh=mesh, dtype=dtype)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Autoencoder(config.vae, rngs=nnx.Rngs(0))))
    return config, nnx.merge(graphdef, state[_PART])


def encoder_sha256(source_dir: epath.PathLike) -> bytes:
    """SHA-256 over the names, shapes and float32 values of the encoder's weights, 32 bytes.

    The same for every form of a checkpoint that holds the same values; another one where they were rounded to another
    precision. Of BAGEL's released autoencoder, the encoder has 34 million values.

    Raises:
      WeightsError, ConfigError: as `load_bagel`.
    """
    _, arrays = open_arrays(source_dir, BAGEL, _PARTS)
    digest = hashlib.sha256()
    for name in sorted(name for name in arrays.shapes if name.startswith(_ENCODER)):
        digest.update(f"{name} {list(arrays.shapes[name])}\n".encode())
        values = np.ascontiguousarray(arrays.read(name, None, np.dtype(np.float32)), "<f4")
        digest.update(values.reshape(-1).view(np.uint8))
    return digest.digest()
