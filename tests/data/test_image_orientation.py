"""An image is what a viewer shows: turned as its EXIF data says, wherever it comes in."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from srum_jax.data.image_transform import decode_image, read_header, with_pixels
from srum_jax.data.writer import check_image, record_of_image

ORIENTATION = 0x0112
# Large squares of one colour: JPEG keeps what is where.
PIXELS = np.repeat(np.repeat(np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 0], [0, 0, 0], [250] * 3]],
                                      np.uint8), 16, axis=0), 16, axis=1)


def stored(orientation, kind="JPEG", **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_is_turned_as_a_viewer_turns_it_and_its_header_tells_the_turned_size(kind, orientation):
    encoded = stored(orientation, kind)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    found = decode_image(encoded)
    np.testing.assert_array_equal(np.asarray(found), shown)
    header = read_header(encoded)
    assert (header.width, header.height) == found.size == ((48, 32) if orientation < 5 else (32, 48))
    np.testing.assert_array_equal(np.asarray(with_pixels(Image.open(io.BytesIO(encoded)))), shown)


def test_an_image_that_was_turned_is_not_turned_again():
    turned = decode_image(stored(6))
    np.testing.assert_array_equal(np.asarray(with_pixels(turned)), np.asarray(turned))
    by_hand = ImageOps.exif_transpose(Image.open(io.BytesIO(stored(6))))
    np.testing.assert_array_equal(np.asarray(with_pixels(by_hand)), np.asarray(turned))


def test_records_state_the_size_of_the_turned_image():
    record = record_of_image(stored(8), record_id="a", prompt="a cat", index=0)
    assert (record.image_width, record.image_height) == (32, 48)
    check_image(record)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00broken", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b""])
def test_exif_data_that_cannot_be_read_turns_nothing(exif):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue()).size == (48, 32) == (read_header(buffer.getvalue()).width, 32)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_orientations_that_do_not_exist_turn_nothing(orientation):
    assert decode_image(stored(orientation)).size == (48, 32)


def test_a_photograph_with_a_preview_behind_it_is_a_jpeg():
    preview = Image.fromarray(PIXELS[::4, ::4])
    encoded = stored(6, "MPO", save_all=True, append_images=[preview])
    assert Image.open(io.BytesIO(encoded)).format == "MPO"
    header = read_header(encoded)
    assert (header.format, header.width, header.height) == ("jpeg", 32, 48) and decode_image(encoded).size == (32, 48)
