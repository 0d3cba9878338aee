"""How fast weights are converted, against a plain copy of the same files, and how much memory it takes.

Makes a checkpoint with the tensor shapes of the released BAGEL-7B-MoT but fewer layers, then imports it and
exports the result, each in a process of its own. All figures are printed; nothing is kept.

  python -m benchmarks.convert                      # 2 layers: 4.5 GB per copy, 4 copies on the disk at the
  most python -m benchmarks.convert --layers 8 --directory /mnt/disk
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from etils import epath

from srum_jax.command_line import user_path

# The released configuration; only the numbers of layers are changed.
_LLM = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32768,
    "hidden_act": "silu", "tie_word_embeddings": False, "num_hidden_layers": 28,
}
_VIT = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 980,
    "patch_size": 14,
    "num_hidden_layers": 27,
}
_RELEASED_LAYERS = 28
_LOAD = """
import sys
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
load(open_checkpoint(sys.argv[1], BAGEL), dtype="bfloat16")
"""
_FILL_VALUES = 1 << 22


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m "
                                                                                        "benchmarks.convert"
    )
    parser.add_argument("--layers", type=int, default=2, help="decoder layers of the made-up checkpoint "
                                                              "(default 2)")
    parser.add_argument("--vit-layers", type=int, default=2, help="vision layers of it (default 2)")
    parser.add_argument("--directory", type=user_path, help="where to work (default: the system's temporary directory)")
    parser.add_argument("--json", type=user_path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if min(arguments.layers, arguments.vit_layers) < 1:
        parser.error("--layers and --vit-layers: expected at least 1.")
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="bench_convert_") as directory:
        figures = run(epath.Path(directory), arguments.layers, arguments.vit_layers)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        epath.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def run(directory: epath.Path, layers: int, vit_layers: int) -> dict[str, object]:
    """Makes the checkpoint, copies it, imports it, exports it, compares; returns the figures."""
    source, copy = directory / "published", directory / "copy"
    num_bytes, largest, largest_array = make_checkpoint(source, layers, vit_layers)
    figures: dict[str, object] = {
        "layers": layers, "checkpoint_GB": num_bytes / 1e9, "largest_tensor_GB": largest / 1e9,
        "largest_stacked_array_GB": largest_array / 1e9,
        "largest_stacked_array_of_28_layers_GB": largest_array / layers * _RELEASED_LAYERS / 1e9,
    }
    _forget(source)
    start = time.monotonic()
    copy.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, copy / file.name)
        with open(copy / file.name, "rb") as copied:
            os.fsync(copied.fileno())
    figures["copy_MB_per_s"] = num_bytes / 1e6 / (time.monotonic() - start)
    shutil.rmtree(copy)

    commands = {
        "import": ["--model", "bagel", "--source", str(source), "--out", str(directory / "converted")],
        "export": ["--checkpoint", str(directory / "converted"), "--template", str(source),
                   "--out", str(directory / "exported")],
        "import_float32": ["--model", "bagel", "--source", str(source), "--out", str(directory / "float32"),
                           "--dtype", "float32"],
    }
    for name, options in commands.items():
        _forget(source)
        if name == "export":
            _forget(directory / "converted")
        start = time.monotonic()
        peak = _peak_memory([sys.executable, "-m", "tools.convert_weights", name.split("_")[0], *options])
        figures[f"{name}_MB_per_s"] = num_bytes / 1e6 / (time.monotonic() - start)
        figures[f"{name}_peak_GB"] = peak / 1e9
        if name == "import":
            for origin in ("published", "converted"):
                _forget(directory / origin)
                start = time.monotonic()
                peak = _peak_memory([sys.executable, "-c", _LOAD, str(directory / origin)])
                figures[f"load_{origin}_MB_per_s"] = num_bytes / 1e6 / (time.monotonic() - start)
                figures[f"load_{origin}_peak_GB"] = peak / 1e9
        if name == "export":
            same = all(
                _same(source / file, directory / "exported" / file)
                for file in ("ema.safetensors", "ae.safetensors")
            )
            figures["export_equals_source"] = same
            shutil.rmtree(directory / "exported")
            shutil.rmtree(directory / "converted")
    return figures


def make_checkpoint(directory: epath.Path, layers: int, vit_layers: int) -> tuple[int, int, int]:
    """Writes a made-up checkpoint with the released shapes and dtypes.

    Returns:
      Bytes of all tensors, of the largest tensor, and of the largest stacked array.
    """
    # These import JAX, which takes seconds.
    from srum_jax.models.bagel.architecture import BAGEL
    from srum_jax.models.bagel.config import BagelConfig
    from srum_jax.weights.dtypes import DTYPES
    from srum_jax.weights.safetensors_write import SafetensorsWriter
    from srum_jax.weights.table import published_tensors

    directory.mkdir(parents=True)
    llm = _LLM | {"num_hidden_layers": layers}
    vit = _VIT | {"num_hidden_layers": vit_layers + 1}
    (directory / "llm_config.json").write_text(json.dumps(llm))
    (directory / "vit_config.json").write_text(json.dumps(vit))
    config = BagelConfig.from_json(llm=llm, vit=vit)
    shapes = BAGEL.shapes(config, BAGEL.parts)
    published = published_tensors(BAGEL.table, shapes)
    bits = np.random.default_rng(0).integers(0, 1 << 14, _FILL_VALUES, np.uint16)  # small positive numbers
    num_bytes = largest = 0
    for file in ("ema.safetensors", "ae.safetensors"):
        dtype = DTYPES["BF16"] if file == "ema.safetensors" else DTYPES["F32"]
        forms = {name: (dtype, shape) for name, shape in sorted(published.items())
                 if BAGEL.home_of(name).glob == file}
        with SafetensorsWriter(directory / file, forms) as writer:
            for name, (_, shape) in forms.items():
                columns = int(np.prod(shape[1:], dtype=np.int64))
                rows = max(1, _FILL_VALUES // 2 // columns)
                for first in range(0, shape[0], rows):
                    box = (min(rows, shape[0] - first), *shape[1:])
                    values = bits.view(dtype)[: int(np.prod(box))].reshape(box)
                    writer.write(name, values, (slice(first, first + box[0]),))
                size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                num_bytes, largest = num_bytes + size, max(largest, size)
    stacked = max(
        2 * int(np.prod(shape, dtype=np.int64)) for path, shape in shapes.items() if BAGEL.table.is_stacked(path)
    )
    return num_bytes, largest, stacked


def _peak_memory(command: list[str]) -> int:
    """Runs a command; returns the largest resident size that it had, in bytes."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * 1024


def _forget(directory: epath.Path) -> None:
    """Asks the system to drop a directory's files from memory, so that they are read from the disk."""
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _same(first: epath.Path, second: epath.Path) -> bool:
    with open(first, "rb") as a, open(second, "rb") as b:
        while True:
            block = a.read(1 << 24)
            if block != b.read(1 << 24):
                return False
            if not block:
                return True


if __name__ == "__main__":
    sys.exit(main())
