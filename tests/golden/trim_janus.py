"""Makes the copy of a recorded case of Janus-Pro that lies here: `python -m tests.golden.trim_janus SOURCE TARGET`.

Left out are the other layout of the same weights, tensors that the model does not use, a picture that no conversation
shows and the source of a large one, what lies between two other records, and all but the smallest gradients and updated
parameters.
"""

import pathlib
import re
import shutil
import sys

import ml_dtypes  # noqa: F401 (tells NumPy of bfloat16)
import numpy as np
from safetensors.numpy import load_file, save_file

_LEFT_OUT = re.compile(
    r"model/(.*attn_pool\..*|.*codebook_used)"
    r"|preprocess/(pixel_values_\d|\w+_3|raw_4)|vision/(patch_embed|embeddings|block_\d)|dual/und\.pixel_values"
    r"|understanding/(inputs_embeds|layer_\d(\.attn)?|final_norm|logits)|vq/roundtrip\..+"
    r"|generation/(greedy\.(logits|guided|hidden)|sample\.logits|sample_t\..+|tf1\.logits|embed\.gen_aligner)"
)
_LARGEST = {"grads": 200, "adamw": 200}  # bytes of gradients and parameters that stay


def stays(file: str, name: str, values: np.ndarray) -> bool:
    """Whether a tensor of a file (without `golden_` and ending) is part of the trimmed case."""
    return not _LEFT_OUT.fullmatch(f"{file}/{name}") and values.nbytes <= _LARGEST.get(file, values.nbytes)


def trim(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a case without its largest parts; the templates, which lie beside it, come along."""
    target.mkdir(parents=True)
    for path in [*source.glob("*.json"), source.parent / "templates.json"]:
        shutil.copyfile(path, target / path.name)
    for path in sorted(source.glob("*.safetensors")):
        file = path.stem.removeprefix("golden_")
        kept = {name: values for name, values in load_file(path).items() if stays(file, name, values)}
        save_file(kept, target / path.name)


if __name__ == "__main__":
    trim(*map(pathlib.Path, sys.argv[1:]))
