"""Visitors' files are decoded safely; what is drawn over a picture lies where it should."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from srum_jax.demo.pictures import _short, css_colour, film, read_upload, shown, with_boxes, with_map
from srum_jax.errors import BadInput
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

GREY = np.full((48, 48, 3), 200, np.uint8)


def png(width, height, data=b""):
    """A PNG that says it is of a size, with pixels or without."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_picture_is_read_upright_and_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    image.save(tmp_path / "a.png")
    assert read_upload(tmp_path / "a.png", 1e6).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (4, 2)).save(tmp_path / "b.jpg", exif=exif)
    assert read_upload(tmp_path / "b.jpg", 1e6).shape == (4, 2, 3)


@pytest.mark.parametrize(("encoded", "said"), [
    (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "PNG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PNG"),
    (b"", "PNG"),
    (png(9_000, 9_000), "9000 x 9000"),  # a quarter of a gigabyte, if it were decoded
    (png(40_000, 40_000), "decompression bomb"),
    (png(8, 8, bytes(30)), "undecodable"),  # ends early
    (bytes(2000), "at most 0.001 MB"),
])
def test_what_is_no_picture_or_too_large_is_refused(tmp_path, encoded, said):
    (tmp_path / "a.png").write_bytes(encoded)
    with pytest.raises(BadInput, match=said):
        read_upload(tmp_path / "a.png", 1000)


def test_small_pictures_are_enlarged_by_whole_numbers_and_large_ones_left_alone():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    large = shown(pixels)
    assert large.shape == (340, 510, 3)
    np.testing.assert_array_equal(large[::85, ::85], pixels)
    big = np.zeros((600, 700, 3), np.uint8)
    assert shown(big).shape == big.shape


def test_a_box_is_drawn_at_its_place_in_the_colour_of_its_score():
    drawn = with_boxes(GREY, [Box(12, 12, 36, 36)], [1.0]).astype(int)
    blue = [int(part) for part in css_colour(1.0)[4:-1].split(",")]
    assert drawn[360 // 2, 120:125].tolist() == [blue] * 5  # left edge, half-way down
    assert drawn[250, 250].tolist() == [200] * 3 and drawn[60, 60].tolist() == [200] * 3
    assert css_colour(-1.0) != css_colour(1.0) and css_colour(None) == css_colour(0.0)


def test_a_map_colours_each_token_of_its_window():
    values = np.zeros((6, 4), np.float32)
    values[0, 0], values[5, 3] = 1.0, -1.0
    over = with_map(GREY, values, Grid(6, 4, Box(8, 0, 40, 48), 32, 48), (-1.0, 0.0, 1.0)).astype(int)
    corner = lambda row, column: over[row * 80 + 2, 80 + column * 80 + 2]  # noqa: E731
    assert corner(0, 0)[2] > corner(0, 0)[0] + 50, "blue for the best"
    assert corner(5, 3)[0] > corner(5, 3)[2] + 50, "orange for the worst"
    assert np.ptp(corner(3, 1)) <= 4, "grey where nothing is said"
    assert over[240, 20].tolist() == [200] * 3, "nothing outside of the window"


def test_a_film_has_a_tile_for_each_step():
    one = film([GREY] * 9, [f"t = {step}" for step in range(9)])
    assert one.shape == (3 * (240 + 26 + 8) - 8, 4 * 248 - 8, 3)


@pytest.mark.parametrize(("value", "said"), [(1.0, "1"), (-0.0, "0"), (-0.001, "0"), (0.5, "0.5"), (-0.375, "-0.38")])
def test_the_number_of_a_token_is_said_shortly(value, said):
    assert _short(value) == said
