"""Of a batch that processes share, each resizes the pictures of its own rows and no others."""

import types

import jax
import numpy as np
import pytest
from PIL import Image

from srum_jax.data.image_transform import ImageTransform, to_unit_range
from srum_jax.families.bagel.conversation import encode_views
from srum_jax.families.bagel.image_views import ImageViews, latent_view, patch_view
from srum_jax.families.janus_pro import answerer
from srum_jax.families.janus_pro.request_reader import ReadQuestion
from srum_jax.inference.programs import Programs
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.janus_pro.pictures import view_to_read
from tests.families.bagel.test_order_of_inputs import Listener
from tests.models.packs import small_config

PICTURES = [Image.fromarray(np.full((40, 60, 3), value, np.uint8)) for value in (10, 80, 150, 220)]
OWN = np.array([False, True, False, True])


@pytest.fixture
def resized(monkeypatch):
    """Colours of the images that were resized."""
    found, inner = [], ImageTransform.resize
    monkeypatch.setattr(ImageTransform, "resize", lambda self, image, *more: (
        found.append(image.getpixel((0, 0))[0]), inner(self, image, *more))[1])
    return found


@pytest.fixture
def shared():
    """Stands in for the programs of the second of two processes; notes what it is given."""
    listener, given = Listener(), []
    listener.own_rows = lambda count: OWN[:count]
    listener.encode_images = lambda pixels, keys: (given.append(pixels), np.zeros((len(pixels), 4, 16)))[1]
    listener.given = given
    return listener


def test_latents_of_a_flow_model(shared, resized):
    config = small_config()
    views = [latent_view(picture, ImageViews.of(config), config) for picture in PICTURES]
    assert not resized  # sizes are known without
    encode_views(shared, views, jax.random.split(jax.random.key(0), 4))
    (pixels,) = shared.given
    assert resized == [80, 220] and not pixels[~OWN].any()
    np.testing.assert_array_equal(pixels[1], to_unit_range(views[1].resized.pixels))


def test_patches_of_a_flow_model_are_those_of_the_resized_picture_made_once(resized):
    config = small_config()
    views = ImageViews.of(config)
    latent = latent_view(PICTURES[1], views, config)
    seen = patch_view(latent.resized, views, config)
    assert not resized and len(seen.position_ids) > 0
    assert seen.patches is seen.patches and len(seen.patches) == len(seen.position_ids)
    assert resized == [80, 80]  # for the autoencoder, and from there


def test_views_of_a_model_of_codes(monkeypatch):
    programs = types.SimpleNamespace(own_rows=lambda count: OWN[:count], config=types.SimpleNamespace(
        vision=types.SimpleNamespace(image_size=16)))
    read = [ReadQuestion("what", 0, (picture,)) for picture in PICTURES]
    found = answerer.views_of(read, programs)
    assert found.shape == (4, 1, 16, 16, 3) and not found[~OWN].any()
    for row in np.flatnonzero(OWN):
        np.testing.assert_array_equal(found[row, 0], view_to_read(PICTURES[row], 16))


def test_a_process_that_is_alone_has_every_row():
    programs = Programs.__new__(Programs)
    programs.mesh = build_mesh(MeshConfig())
    assert programs.own_rows(4 * len(jax.devices())).all()
