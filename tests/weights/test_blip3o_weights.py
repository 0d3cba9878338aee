"""BLIP3o's key table against the tiny case and the released sizes."""

import math

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.published import companion_files
from tests.golden import HERE
from tests.models.test_blip3o_config import MODEL
from tools.convert_weights.export import export_weights
from tools.convert_weights.import_ import import_weights

CASE = HERE / "blip3o" / "tiny_tied"
FILES = ("model.safetensors", "eva_clip_vision_tower/model.safetensors")


def linked(tmp_path):
    case = tmp_path / "case"
    (case / "eva_clip_vision_tower").mkdir(parents=True)
    for name in (*FILES, "config.json", "dit_config.json", "eva_clip_config.json"):
        (case / name).write_bytes((CASE / name).read_bytes())
    return case


def test_weights_come_back_byte_equal(tmp_path):
    template = open_checkpoint(CASE, BLIP3O, {"eva"})
    import_weights(template, tmp_path / "converted")
    export_weights(tmp_path / "converted", template, tmp_path / "exported")
    for name in FILES:
        before, after = load_file(CASE / name), load_file(tmp_path / "exported" / name)
        assert before.keys() == after.keys()
        assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_a_tied_head_has_no_tensor_and_an_untied_one_needs_it(tmp_path):
    case = linked(tmp_path)
    assert not any(name.startswith("llm.lm_head") for name in open_checkpoint(case, BLIP3O, ()).arrays.shapes)
    text = (case / "config.json").read_text()
    (case / "config.json").write_text(text.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))
    with pytest.raises(WeightsError, match=r"lm_head\.weight"):
        open_checkpoint(case, BLIP3O, ())


def test_the_tower_may_lie_in_the_main_file(tmp_path):
    case = linked(tmp_path)
    tower = load_file(case / FILES[1])
    (case / FILES[1]).unlink()
    prefix = "model.gen_vision_tower.vision_tower.model."
    save_file({**load_file(case / FILES[0]), **{prefix + name: value for name, value in tower.items()}},
              case / FILES[0])
    assert "eva" in open_checkpoint(case, BLIP3O, {"eva"}).parts


def test_an_unused_autoencoder_is_left_out_with_a_reason_and_an_unknown_tensor_refused(tmp_path):
    case = linked(tmp_path)
    tensors = load_file(case / FILES[0])
    save_file({**tensors, "model.vae.encoder.anything": np.zeros(1, np.float32)}, case / FILES[0])
    assert "model.vae.encoder.anything" in open_checkpoint(case, BLIP3O, ()).published.plan.ignored
    save_file({**tensors, "model.unknown": np.zeros(1, np.float32)}, case / FILES[0])
    with pytest.raises(WeightsError, match=r"model\.unknown"):
        open_checkpoint(case, BLIP3O, ())


@pytest.mark.parametrize("changes, expected", [
    ({}, {"llm": 3_085_389_824, "queries": 131_072, "dit": 1_362_257_824, "vision": 668_684_288,
          "eva": 4_350_208_256}),
    ({"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
      "num_key_value_heads": 4, "tie_word_embeddings": False},
     {"llm": 7_069_199_872 + 543_578_112, "queries": 229_376, "dit": 1_365_010_336, "vision": 676_550_144,
      "eva": 4_350_208_256}),
], ids=["4B", "8B"])
def test_released_models_have_the_published_numbers_of_parameters(changes, expected):
    counts: dict[str, int] = {}
    for name, shape in BLIP3O.shapes(Blip3oConfig.from_json({**MODEL, **changes}), {"vision", "eva"}).items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
    assert counts == expected


def test_the_small_files_of_the_pixel_decoder_travel_with_the_weights(tmp_path):
    case = linked(tmp_path)
    described = case / "diffusion-decoder" / "unet" / "config.json"
    described.parent.mkdir(parents=True)
    described.write_text("{}")
    assert str(described) in map(str, companion_files(epath.Path(case), BLIP3O.folders))
