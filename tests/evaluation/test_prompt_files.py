"""Files of a benchmark's own, as --prompts names them."""

import pytest
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.evaluation.folder import read_files


def test_of_a_folder_all_files_of_benchmarks_are_read_with_those_inside_and_none_of_the_system(tmp_path):
    for name in ("a.json", "color/eval.txt", "color/deep/b.jsonl", "._a.json", "color/.DS_Store", "picture.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = read_files([epath.Path(tmp_path)])
    assert found == {name.replace("/", "__"): name.encode() for name in ("a.json", "color/deep/b.jsonl",
                                                                          "color/eval.txt")}


def test_an_absent_file_and_two_of_one_name_are_told(tmp_path):
    (tmp_path / "a.json").write_text("")
    for paths, message in (([tmp_path / "b.json"], "no such file"), ([tmp_path / "a.json"] * 2, "two files are named")):
        with pytest.raises(BadInput, match=message):
            read_files(paths)
