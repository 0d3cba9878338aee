"""Where the golden tensors are, and how to read them."""

import json
import os
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file


def golden_dir() -> pathlib.Path:
    """The folder of golden data: SRUM_GOLDEN, or `shared/golden` beside the checkout. Skips where it is absent."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "golden"
    path = pathlib.Path(os.environ.get("SRUM_GOLDEN", default))
    if not path.is_dir():
        pytest.skip(f"no golden data at {path}; set SRUM_GOLDEN to the folder that holds bagel/")
    return path


def golden_tensors(name: str) -> dict[str, np.ndarray]:
    """All tensors of one file, for instance `bagel/tiny_a/vae.safetensors`."""
    return load_file(golden_dir() / name)


def golden_json(name: str):
    """One parsed JSON file."""
    return json.loads((golden_dir() / name).read_text())
