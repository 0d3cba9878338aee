"""What a family makes of records: batches, as general code gets to see them."""

from typing import Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Batch(Protocol):
    """A family's own registered dataclass; a tree of arrays with a leading axis of rows."""

    image_columns: dict[str, Array]  # float32 [B, C] each, one value per image token
    text_columns: dict[str, Array]  # float32 [B, T] each, one value per predicted text token
