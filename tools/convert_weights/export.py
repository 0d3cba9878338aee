"""From our weights back to the layout that the official code loads."""

import json
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from srum_jax.models.architecture import WeightFile
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import write_text
from srum_jax.weights.arrays import ArrayReader, PublishedArrays, for_each_block
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.errors import raise_together
from srum_jax.weights.safetensors_read import Region
from srum_jax.weights.safetensors_write import SafetensorsWriter
from srum_jax.weights.table import Piece, Plan, SourceTensor, make_plan, published_tensors
from srum_jax.weights.weight_files import INDEX
from tools.convert_weights.export_source import ExportSource, open_source
from tools.convert_weights.output_directory import check_output, copy_files
from tools.convert_weights.start import check_start

logger = logging.getLogger(__name__)

REPORT = "export_report.json"
Write = Callable[[str, np.ndarray, Region], None]  # tensor, values, region of it


def export_weights(
    checkpoint: epath.PathLike, template: Checkpoint, out: epath.PathLike, *, form: str | None = None
) -> dict[str, Any]:
    """Writes a checkpoint in the published layout.

    Every tensor has the template's name, dtype, order and shape. Its values are the checkpoint's if it has
    them, else the template's; constants that the template lacks are written too. Low-rank factors are merged
    into the template's values in float32. Memory holds one tensor (of a training
    checkpoint: some chunks; at a merge three matrices) and a block of 64 MiB.

    Args:
      checkpoint: converted weights, a training run's directory, its `checkpoints`, or one step of it.
      template: published checkpoint with all its parts that the weights once came from.
      out: directory to be made; must not exist.
      form: "raw" or "ema"; None takes the average of the weights if the checkpoint has one.

    Returns:
      What is noted in REPORT: what was read (of a training run, the step) and in which form, and where the tensors
      come from, those of the template by groups, and optional parts that it has not, so that the result has not either.

    Raises:
      WeightsError, ConfigError: if the inputs are not usable or do not belong together.
      OSError: if writing fails. In all cases nothing is left behind.
    """
    out = epath.Path(out)
    opened = open_source(template.architecture, checkpoint, form)
    published = template.published
    trained = opened.weights(published)
    check_belongs(opened, template)
    source = published.source
    tensors = _tensors(template)
    plan = make_plan(published.plan.table, tensors, published.shapes, str(source.directory))
    files: dict[WeightFile, list[str]] = {}
    for name in tensors:
        files.setdefault(template.architecture.home_of(name), []).append(name)
    forms = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    num_bytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in forms.values())
    companions = [file for file in source.companions() if file.name != REPORT]
    check_output(out, num_bytes + sum(file.stat().length for file in companions))

    pieces = plan.by_source()
    own = {name for name in pieces if any(piece.target in trained.shapes for piece in pieces[name])}
    completed = Counter(_group(name, pieces.get(name)) for name in source.tensors if name not in own)
    computed = tuple(name for name in forms if name not in own and name not in source.tensors)
    with atomic_directory(out) as directory:
        with tqdm(
            total=num_bytes, unit="B", unit_scale=True, desc="export", disable=not sys.stderr.isatty()
        ) as bar:
            for file, names in files.items():
                _write_file(directory, file, {name: forms[name] for name in names}, plan, published, trained, bar)
                _link(directory, file.glob, template.architecture.alternatives_of(file))
        copy_files(companions, source.directory, directory)
        report = {"checkpoint": str(opened.path), "weights": opened.form, "lora_merged": opened.lora is not None,
                  "template": str(source.directory), "tensors_from_checkpoint": len(own),
                  "tensors_from_template": dict(sorted(completed.items())), "tensors_computed": computed,
                  "parts_absent": [part for part in template.architecture.parts if part not in template.parts]}
        weight_map = {name: file.glob for file, names in files.items() for name in names if "/" not in file.glob}
        index = {"metadata": {"total_size": num_bytes}, "weight_map": weight_map}
        write_text(directory / INDEX, json.dumps(index, indent=2) + "\n")
        write_text(directory / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def check_belongs(opened: ExportSource, template: Checkpoint) -> None:
    """Refuses weights that the template's model has no place for, and those of a run that started from others.

    Raises:
      WeightsError: listing them; or see `check_start`.
    """
    problems = []
    published = template.published
    for path, shape in opened.weights(published).shapes.items():
        expected = published.shapes.get(path)
        if expected is None:
            problems.append(f"array '{path}' {shape}: expected no such array in the template's model")
        elif expected != shape:
            problems.append(f"array '{path}': expected shape {expected} as in the template, found {shape}")
    raise_together(f"{opened.path}: does not belong to the template {published.source.directory}; give the published "
                   "checkpoint that the training started from", problems)
    if opened.of_run:
        check_start(opened.path, template)


def _tensors(template: Checkpoint) -> dict[str, SourceTensor]:
    """What is to be written, in the template's order; after it the constants that the template lacks, stored as most of
    its tensors are."""
    published = template.published
    tensors = {name: published.source.tensors[name] for name in published.source.in_order()}
    usual = Counter(tensor.dtype for tensor in tensors.values()).most_common(1)[0][0]
    constants = published_tensors(published.plan.table, {path: published.shapes[path]
                                                         for path in published.plan.computed})
    origin = str(published.source.directory)
    return tensors | {name: SourceTensor(usual, shape, origin) for name, shape in constants.items()}


def _write_file(
    directory: epath.Path, file: WeightFile, forms: Mapping[str, tuple[np.dtype, tuple[int, ...]]], plan: Plan,
    published: PublishedArrays, trained: ArrayReader, bar: tqdm,
) -> None:
    """Writes the named tensors, with the values of `trained` where it has them."""
    names = list(forms)
    called = {name: name.removeprefix(file.prefix) for name in names}  # in the file
    constants = {piece.source: piece for path in published.plan.computed for piece in plan.pieces[path]}
    path = directory / file.glob
    path.parent.mkdir(parents=True, exist_ok=True)
    with SafetensorsWriter(path, {called[name]: form for name, form in forms.items()},
                           published.source.metadata_of(names[0])) as writer:

        def write(name: str, values: np.ndarray, region: Region | None = None) -> None:
            writer.write(called[name], values, region)
            bar.update(values.nbytes)

        left = dict.fromkeys(names)
        for parameter in trained.shapes:
            pieces = [piece for piece in plan.pieces.get(parameter, ()) if piece.source in called]
            if pieces:
                _write_array(write, trained, pieces, forms)
            for piece in pieces:
                left.pop(piece.source, None)
        for name, pieces in plan.by_source().items():
            if name in called and name not in left:
                for piece in pieces:  # of a tensor that is the checkpoint's in part
                    if piece.target not in trained.shapes:
                        write(name, published.source.read(name, piece.own), piece.own)
        for name in left:
            if (piece := constants.get(name)) is None:
                write(name, published.source.read(name))
            else:
                write(name, np.ascontiguousarray(piece.to_source(published.read(piece.target, None, forms[name][0]))))


def _link(directory: epath.Path, name: str, others: list[str]) -> None:
    """Gives a file the other names that scripts look for."""
    for other in others:
        try:
            os.symlink(name, directory / other)
        except OSError as error:  # not every file system has links
            logger.warning("%s cannot be made another name of %s (%s).", other, name, error.strerror or error)


def _write_array(
    write: Write,
    trained: ArrayReader,
    pieces: list[Piece],
    forms: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
) -> None:
    """Writes one array's tensors, region by region in the order that suits the checkpoint."""
    parameter = pieces[0].target
    by_layer = {piece.layer: piece for piece in pieces}
    for box in trained.boxes(parameter):
        values = trained.read(parameter, box)
        if None in by_layer:
            _write_region(write, by_layer[None], values, box, forms)
            continue
        for offset, layer in enumerate(range(box[0].start, box[0].stop)):
            if layer in by_layer:
                _write_region(write, by_layer[layer], values[offset], box[1:], forms)


def _write_region(
    write: Write,
    piece: Piece,
    values: np.ndarray,
    box: tuple[slice, ...],
    forms: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
) -> None:
    region = piece.source_region(box)

    def consume(rows: tuple[int, int], block: np.ndarray) -> None:
        first = region[0].start if region else 0
        moved = (slice(first + rows[0], first + rows[1]), *region[1:]) if region else ()
        write(piece.source, block, moved)

    for_each_block(piece.to_source(values), forms[piece.source][0], consume)


def _group(name: str, pieces: list[Piece] | None) -> str:
    """A short name for what a tensor belongs to."""
    if pieces is None:
        return f"{name} (not used by our model)"
    parts = pieces[0].target.split(".")
    return ".".join(
        parts[:3] if parts[:2] == ["llm", "layers"] else parts[:2] if parts[0] == "llm" else parts[:1]
    )
