import pytest

from srum_jax.storage.atomic_directory import atomic_directory


def test_a_directory_takes_its_name_when_it_is_complete(tmp_path):
    with atomic_directory(tmp_path / "a" / "model") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "model").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]
    assert (tmp_path / "a" / "model" / "x").read_text() == "1"


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "model") as folder:
        (folder / "x").write_text("1")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_there_is_never_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileExistsError, match="choose another directory"), atomic_directory(tmp_path / "model"):
        pytest.fail("the block must not run")


def test_a_directory_made_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError, match="model: exists already"), atomic_directory(tmp_path / "model"):
        (tmp_path / "model").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
