"""Images cut into tokens, row-major over patches; inside one, row, column, channel (channel fastest)."""

import einops
import jax
import numpy as np

Array = jax.Array | np.ndarray


def patchify(image: Array, patch_size: int) -> Array:
    """[..., rows * p, columns * q, C] to [..., rows * columns, p * q * C], with p = q = `patch_size`."""
    return einops.rearrange(image, "... (h p) (w q) c -> ... (h w) (p q c)", p=patch_size, q=patch_size)


def unpatchify(tokens: Array, rows: int, columns: int, patch_size: int) -> Array:
    """The inverse of `patchify`: [..., rows * columns, p * q * C] to [..., rows * p, columns * q, C]."""
    return einops.rearrange(
        tokens, "... (h w) (p q c) -> ... (h p) (w q) c", h=rows, w=columns, p=patch_size, q=patch_size
    )
