"""Makes the copy of a recorded case that lies in this folder: `python -m tests.golden.trim SOURCE TARGET`.

What is left out follows from what stays (a latent before a step from the one after it), or repeats on a large
tensor what a smaller one of the same kind shows. Norms of all gradients stay.
"""

import pathlib
import re
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

LARGEST = 12_288  # bytes of a gradient or an updated parameter
_OF_A_PARAMETER = re.compile(r"grad\.\w+\.|step\d+\.(clipped_grad|param)\.")
_LEFT_OUT = re.compile(
    r"mid\.(vae2llm|layer0\.attn|enc\.conv_in)"  # seen in packed_sequence, layer.0 and mean
    r"|.+/step\d+\.x_t|.+/step[1-9]\d*\.v_(cond|text|img)|edit_(text_)?channel/step[1-9]\d*\.v"
    r"|.+/op\d+\.vae_images|.+/decode\.image"  # seen in image_uint8
)


def stays(name: str, values: np.ndarray) -> bool:
    """Whether a tensor is part of the trimmed case."""
    if _OF_A_PARAMETER.match(name) and not name.endswith("all_norms"):
        return values.nbytes <= LARGEST
    return not _LEFT_OUT.fullmatch(name)


def trim(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a case without its largest intermediates. The lists of its keys (KEYS.md) are left out too."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.name in ("ema.safetensors", "ae.safetensors") or path.suffix == ".json":
            shutil.copyfile(path, target / path.name)
        elif path.suffix == ".safetensors":
            save_file({name: values for name, values in load_file(path).items() if stays(name, values)},
                      target / path.name)


if __name__ == "__main__":
    trim(*map(pathlib.Path, sys.argv[1:]))
