"""Text files of any system, links that lead nowhere, files of systems and editors."""

import pytest

from srum_jax.storage.reading import TextFileError, is_hidden, numbered_lines, read_text, why_absent


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_text_is_the_same_from_any_system(tmp_path, mark, end):
    (tmp_path / "a.txt").write_bytes(mark + "Öl\u2028auf".encode() + end + b"Leinwand" + end)
    assert read_text(tmp_path / "a.txt") == "Öl\u2028auf\nLeinwand\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_bytes_that_are_no_utf8_are_named_by_line_and_column(tmp_path, end):
    (tmp_path / "a.txt").write_bytes(b"one" + end + b"tw\xf6")
    with pytest.raises(TextFileError, match=r"a\.txt:2: .*0xf6 at column 3"):
        read_text(tmp_path / "a.txt")


def test_text_with_zero_bytes_is_none(tmp_path):
    for data in ("one\ntwo".encode("utf-16-le"), b"one\ntw\0"):
        (tmp_path / "a.txt").write_bytes(data)
        with pytest.raises(TextFileError, match=r"a\.txt:[12]: expected UTF-8 text, found a zero byte"):
            read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_keep_their_numbers_whatever_they_end_in_and_blank_ones_are_left_out(tmp_path, end):
    (tmp_path / "a.jsonl").write_bytes(end.join([b"one", b"", b" two ", b"\xff", b""]))
    assert list(numbered_lines(tmp_path / "a.jsonl")) == [(1, b"one"), (3, b"two"), (4, b"\xff")]


def test_a_link_that_leads_nowhere_is_told_with_its_target(tmp_path):
    (tmp_path / "link").symlink_to("../blobs/123")
    assert why_absent(tmp_path / "absent") == "no such file"
    with pytest.raises(TextFileError, match=r"link: a link to \.\./blobs/123"):
        read_text(tmp_path / "link")


def test_files_of_systems_and_editors_are_hidden():
    assert all(map(is_hidden, ("._a.json", ".DS_Store", ".#a.txt", "a.txt~", ".a.txt.swp")))
    assert not any(map(is_hidden, ("a.json", "a.b~c", "#a")))
