"""Low-rank factors of a training run as an adapter of PEFT, the LoRA library of PyTorch users.

`adapter_model.safetensors` has `base_model.model.MODULE.lora_A.weight` [r, in] and `lora_B.weight` [out, r] for every
linear module, `adapter_config.json` the settings: `PeftModel.from_pretrained(bagel, DIR)` adds them to the official
model. Unlike a merge into bfloat16 weights this rounds nothing.
"""

import json
import math
from collections.abc import Iterator

import numpy as np
from etils import epath

from srum_jax.models.layers.low_rank import FACTOR_A, FACTOR_B
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import write_text
from srum_jax.weights.arrays import ArrayReader, PublishedArrays
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.merged import factored_maps
from srum_jax.weights.run_folder import ADAPTER_FILE
from srum_jax.weights.safetensors_write import SafetensorsWriter
from tools.convert_weights.export import check_belongs
from tools.convert_weights.export_source import ExportSource, open_source
from tools.convert_weights.output_directory import check_output

CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."
_ENDINGS = {FACTOR_A: ".lora_A.weight", FACTOR_B: ".lora_B.weight"}


def export_adapter(
    checkpoint: epath.PathLike, template: Checkpoint, out: epath.PathLike, *, form: str | None = None
) -> ExportSource:
    """Writes the factors of a LoRA run in PEFT's format, in float32.

    Args:
      checkpoint: a training run's directory, its `checkpoints`, or one step of it.
      template: published checkpoint with all its parts, which gives the names of the modules.
      out: directory to be made; must not exist.
      form: "raw" or "ema"; None takes the average of the factors if there is one.

    Returns:
      What was exported.

    Raises:
      WeightsError, ConfigError: if the inputs are not usable or do not belong together.
      OSError: if writing fails. In all cases nothing is left behind.
    """
    out = epath.Path(out)
    opened = open_source(template.architecture, checkpoint, form)
    if opened.lora is None:
        raise WeightsError(f"--checkpoint {opened.path}: expected low-rank factors of a run with model.lora, found "
                           "whole weights; export them without --adapter.")
    published = template.published
    check_belongs(opened, template)
    tensors = dict(_tensors(opened.arrays, published))
    forms = {name: (np.dtype(np.float32), values.shape) for name, values in tensors.items()}
    check_output(out, sum(4 * math.prod(shape) for _, shape in forms.values()))
    settings = {
        "peft_type": "LORA", "r": opened.lora.rank, "lora_alpha": opened.lora.alpha, "lora_dropout": 0.0,
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "task_type": None,
        "base_model_name_or_path": template.directory.name,
        "target_modules": sorted({name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in tensors}),
    }
    with atomic_directory(out) as directory:
        with SafetensorsWriter(directory / ADAPTER_FILE, forms, {"format": "pt"}) as writer:
            for name, values in tensors.items():
                writer.write(name, values)
        write_text(directory / CONFIG_FILE, json.dumps(settings, indent=2) + "\n")
    return opened


def _tensors(factors: ArrayReader, published: PublishedArrays) -> Iterator[tuple[str, np.ndarray]]:
    """Both factors of every published module, (out, in) as PyTorch has them."""
    for path in factored_maps(factors):
        pieces = published.plan.pieces[f"{path}.kernel"]
        for factor, ending in _ENDINGS.items():
            values = factors.read(f"{path}.{factor}", None, np.dtype(np.float32))
            for piece in pieces:
                own = values if piece.layer is None else values[piece.layer]
                yield _PREFIX + piece.source.removesuffix(".weight") + ending, np.ascontiguousarray(own.T)
