"""From a published checkpoint to converted weights."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping

import numpy as np
from etils import epath
from tqdm import tqdm

from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import write_text
from srum_jax.weights.arrays import PublishedArrays, for_each_block
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.converted import FORMAT, MANIFEST, VERSION, Manifest
from srum_jax.weights.dtypes import weight_dtype
from srum_jax.weights.safetensors_write import SafetensorsWriter
from tools.convert_weights.output_directory import check_output, copy_files

# Arrays are gathered into files of about this size; one array is never split.
_FILE_BYTES = 5 * 10**9

Layout = dict[str, dict[str, tuple[np.dtype, tuple[int, ...]]]]  # file -> array -> dtype and shape


def import_weights(source: Checkpoint, out: epath.PathLike, *, dtype: str | None = None) -> Manifest:
    """Converts a published checkpoint with the parts that it was opened with.

    Everything is checked before the first byte is written. Memory holds one source tensor and a block of 64 MiB.

    Args:
      source: published checkpoint.
      out: directory to be made; must not exist.
      dtype: "float32" or "bfloat16" for all arrays; None keeps what the source has.

    Returns:
      The manifest that was written.

    Raises:
      WeightsError: if `out` or the source cannot be used; nothing is left behind.
      OSError: if writing fails; nothing is left behind.
    """
    out = epath.Path(out)
    arrays = source.published
    dtypes = {path: weight_dtype(dtype) if dtype else arrays.dtype(path) for path in arrays.shapes}
    layout = _layout(arrays.shapes, dtypes)
    num_bytes = sum(_size(*form) for forms in layout.values() for form in forms.values())
    companions = arrays.source.companions()
    check_output(out, num_bytes + sum(file.stat().length for file in companions))
    with atomic_directory(out) as directory:
        with tqdm(
            total=num_bytes, unit="B", unit_scale=True, desc="import", disable=not sys.stderr.isatty()
        ) as bar:
            for name, forms in layout.items():
                with SafetensorsWriter(directory / name, forms, {"format": "srum_jax"}) as writer:
                    for path, (array_dtype, _) in forms.items():
                        _write_array(writer, arrays, path, array_dtype, bar)
        copy_files(companions, arrays.source.directory, directory)
        manifest = Manifest(
            model=source.architecture.name,
            dtype=dtype or "source",
            parts={part: part in source.parts for part in source.architecture.parts},
            files={name: (directory / name).stat().length for name in layout},
            tensors={path: name for name, forms in layout.items() for path in forms},
            ignored=dict(arrays.plan.ignored),
            computed=tuple(arrays.plan.computed),
        )
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
        write_text(directory / MANIFEST, json.dumps(content, indent=1) + "\n")
    return manifest


def _write_array(
    writer: SafetensorsWriter, arrays: PublishedArrays, path: str, dtype: np.dtype, bar: tqdm
) -> None:
    """Writes one array, a layer at a time, each layer in blocks of rows."""
    if path in arrays.plan.computed:
        writer.write(path, arrays.read(path, None, dtype))
        return
    for piece in arrays.plan.pieces[path]:
        values = arrays.source.read(piece.source, piece.own)
        layer = () if piece.layer is None else (slice(piece.layer, piece.layer + 1),)

        def consume(rows: tuple[int, int], block: np.ndarray, layer: tuple[slice, ...] = layer) -> None:
            region = (*layer, slice(*rows)) if block.ndim else layer
            writer.write(path, block[None] if layer else block, region)
            bar.update(block.nbytes)

        for_each_block(piece.to_target(values), dtype, consume)
        del values  # before the next one is read


def _layout(shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype]) -> Layout:
    groups: list[dict[str, tuple[np.dtype, tuple[int, ...]]]] = [{}]
    filled = 0
    for path, shape in shapes.items():
        size = _size(dtypes[path], shape)
        if groups[-1] and filled + size > _FILE_BYTES:
            groups.append({})
            filled = 0
        groups[-1][path] = (dtypes[path], shape)
        filled += size
    return {f"weights-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, 1)}


def _size(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)
