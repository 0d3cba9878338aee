"""A checksum of what turns pictures into stored codes, which says whose codes are whose."""

import hashlib

import numpy as np

from srum_jax.weights.checkpoint import Checkpoint


def encoder_sha256(checkpoint: Checkpoint) -> bytes:
    """SHA-256 over the names, shapes and float32 values of the encoder's weights, 32 bytes.

    The same for every form of a checkpoint that holds the same values; another one where they were rounded to another
    precision. Of BAGEL's released autoencoder, the encoder has 34 million values.

    Args:
      checkpoint: opened with the part that `architecture.encoder` lies in.
    """
    arrays, prefix = checkpoint.arrays, checkpoint.architecture.encoder
    digest = hashlib.sha256()
    for parameter in sorted(name for name in arrays.shapes if name.startswith(prefix)):
        digest.update(f"{parameter} {list(arrays.shapes[parameter])}\n".encode())
        values = np.ascontiguousarray(arrays.read(parameter, None, np.dtype(np.float32)), "<f4")
        digest.update(values.reshape(-1).view(np.uint8))
    return digest.digest()
