import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from tools.convert_weights.__main__ import main


class Program:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def convert(source, out) -> int:
    return main(["unpickle", "--source", str(source), "--out", str(out)])


def test_shards_become_safetensors_one_by_one_with_the_same_values(tmp_path):
    torch = pytest.importorskip("torch")
    source = tmp_path / "release"
    source.mkdir()
    shared = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    torch.save({"a": shared, "b": shared.T}, source / "pytorch_model-00001-of-00002.bin")
    torch.save({"c": torch.ones(2, dtype=torch.bfloat16)}, source / "pytorch_model-00002-of-00002.bin")
    assert convert(source, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    first = load_file(tmp_path / "out" / "model-00001-of-00002.safetensors")
    np.testing.assert_array_equal(first["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(first["b"], first["a"].T)


def test_a_pickle_that_runs_a_program_is_refused_and_does_not_run(tmp_path, capsys):
    pytest.importorskip("torch")
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(pickle.dumps({"a": Program(tmp_path / "ran")}))
    assert convert(file, tmp_path / "out") == 2
    assert "pytorch_model.bin" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused_by_name(content, tmp_path, capsys):
    pytest.importorskip("torch")
    (tmp_path / "weights.bin").write_bytes(content)
    assert convert(tmp_path / "weights.bin", tmp_path / "out") == 2
    assert "weights.bin" in capsys.readouterr().err


def test_a_file_that_holds_more_than_tensors_is_refused(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    torch.save({"epoch": 3, "a": torch.ones(1)}, tmp_path / "weights.bin")
    assert convert(tmp_path / "weights.bin", tmp_path / "out") == 2
    assert "dictionary from names to tensors" in capsys.readouterr().err


def test_without_pytorch_the_extra_is_named(tmp_path):
    code = ("import sys; sys.modules['torch'] = None; from tools.convert_weights.unpickled import main; "
            "sys.exit(main('a', 'b'))")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 1 and "srum-jax[rewards]" in child.stderr


def test_a_directory_without_pickled_weights_is_refused(tmp_path, capsys):
    assert convert(tmp_path, tmp_path / "out") == 2
    assert ".bin" in capsys.readouterr().err
