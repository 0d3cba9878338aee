"""Parameters of a training checkpoint, read chunk by chunk without restoring it."""

import functools
import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping

import numpy as np
import tensorstore as ts
from etils import epath

from srum_jax.storage.object_store import is_local
from srum_jax.weights.dtypes import WEIGHT_DTYPES, cast
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.run_folder import PARAMS
from srum_jax.weights.safetensors_read import Region, region_bounds

logger = logging.getLogger(__name__)

# Chunks are read together up to this size. A chunk that is larger comes alone.
_BOX_BYTES = 256 * 2**20
# Reading a chunk takes its compressed bytes, its decoded bytes and a copy; above this that is several GB.
_LARGE_CHUNK_BYTES = 10**9


class OrbaxArrays:
    """The parameters of one saved step, or their average.

    Reading holds no more than a region and the chunks that it touches.
    """

    def __init__(self, step_directory: epath.PathLike, which: str = PARAMS):
        """Opens the list of arrays.

        Args:
          step_directory: a finished step of a training run.
          which: PARAMS, or EMA for their average.

        Raises:
          WeightsError: if it is not one, or an array cannot be opened.
        """
        self.directory = epath.Path(step_directory) / which
        metadata = _read_metadata(self.directory)
        tree = metadata["tree_metadata"]
        # Of parameters, and of the folders that hold them.
        self._names = [".".join(str(key["key"]) for key in entry["key_metadata"]) for entry in tree.values()]
        problems = []
        self._metadata = metadata
        for parameter in self._names:
            try:
                dtype = self.dtype(parameter)
            except ValueError as error:
                problems.append(f"array '{parameter}': cannot be opened ({_first_line(error)})")
                continue
            if dtype not in WEIGHT_DTYPES:
                problems.append(f"array '{parameter}': expected a float dtype, found {dtype}")
        raise_together(f"{self.directory}: damaged training checkpoint; use another step", problems)

    @functools.cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every parameter."""
        return {parameter: tuple(self._open(parameter).shape) for parameter in self._names}

    def dtype(self, parameter: str) -> np.dtype:
        """The stored dtype of an array."""
        return self._open(parameter).dtype.numpy_dtype

    def read(self, parameter: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array.

        Raises:
          WeightsError: if stored chunks are damaged or absent.
        """
        box = tuple(slice(*bound) for bound in region_bounds(self.shapes[parameter], region))
        try:
            values = np.asarray(self._open(parameter)[box].read().result())
        except ValueError as error:
            raise WeightsError(f"{self.directory}: array '{parameter}': cannot be read ({_first_line(error)}); "
                               "use another step.") from error
        return values if dtype is None else cast(values, dtype)

    def boxes(self, parameter: str) -> Iterator[Region]:
        """Groups of whole chunks, so that each chunk is fetched and decoded once."""
        store = self._open(parameter)
        shape = tuple(store.shape)
        box = [
            min(chunk, size) for chunk, size in zip(store.chunk_layout.read_chunk.shape, shape, strict=True)
        ]
        item_bytes = store.dtype.numpy_dtype.itemsize
        if math.prod(box) * item_bytes > _LARGE_CHUNK_BYTES:
            logger.warning(
                "array '%s' was saved in chunks of %.1f GB; reading it takes about three times that in "
                "memory. Save with a chunk_byte_size of some 256 MB.", parameter, math.prod(box) * item_bytes / 1e9
            )
        for dim in reversed(range(len(shape))):
            fits = _BOX_BYTES // max(1, math.prod(box) * item_bytes)
            box[dim] = min(shape[dim], box[dim] * max(1, fits))
        starts = itertools.product(*(range(0, size, step) for size, step in zip(shape, box, strict=True)))
        for corner in starts:
            yield tuple(slice(start, min(start + step, size))
                        for start, step, size in zip(corner, box, shape, strict=True))

    def _spec(self, name: str) -> dict[str, object]:
        base = str(self.directory) if not is_local(self.directory) else f"file://{self.directory.resolve()}"
        store: object = f"{base}/{name}/"
        if self._metadata.get("use_ocdbt", True):
            store = {"driver": "ocdbt", "base": f"{base}/", "path": f"{name}/"}
        return {
            "driver": "zarr3" if self._metadata.get("use_zarr3") else "zarr",
            "kvstore": store,
            # A chunk that was never stored reads as zeros otherwise, and a lost file would pass for weights.
            "fill_missing_data_reads": not self._metadata.get("store_array_data_equal_to_fill_value", False),
        }

    @functools.cache  # noqa: B019 - lives as long as the conversion
    def _open(self, parameter: str) -> ts.TensorStore:
        # Nothing is read twice, so nothing is worth keeping.
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        return ts.open(self._spec(parameter), open=True, read=True, context=context).result()


def _first_line(error: ValueError) -> str:
    # What follows are the library's own source lines and the whole specification as JSON.
    return str(error).split(" [")[0][:300]


def _read_metadata(directory: epath.Path) -> dict:
    path = directory / "_METADATA"
    try:
        metadata = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; expected a finished step of a training run.") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error}); use another step.") from error
    tree = metadata.get("tree_metadata") if isinstance(metadata, dict) else None
    if not isinstance(tree, dict) or not tree or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("key_metadata"), list)
        and all(isinstance(key, dict) and "key" in key for key in entry["key_metadata"])
        for entry in tree.values()
    ):
        raise WeightsError(f"{path}: field 'tree_metadata': expected the list of saved arrays; use another "
                           f"step.")
    return metadata
