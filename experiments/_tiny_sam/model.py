"""The tiny SAM: sizes, a random start, and its directory in Hugging Face's layout.

The picture goes in as it is, S = 48 pixels, and the masks have its size, so nothing is resized and a mask can be
right to the pixel. Vision tokens cover 4 x 4 pixels; the decoder brings them back to single pixels.
"""

import json
from typing import Any

import torch
from etils import epath
from transformers import SamConfig, SamModel

from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.worlds.shapes.base import RECIPE
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

_PATCH = 4  # the decoder enlarges by the same factor
_WIDTH = 64
_VISION_WIDTH = 96
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of SAM's own image processor
PREPROCESSOR = "preprocessor_config.json"
# Below SAM's default by the ratio of the sizes: a pixel of 48 turns the highest wave by about a quarter.
_WAVE_NUMBERS = 1.0  # standard deviation, of the encoding of points


def tiny_config() -> SamConfig:
    """Sizes of all parts."""
    vision = {
        "hidden_size": _VISION_WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "mlp_dim": 2 * _VISION_WIDTH,
        "image_size": PICTURE_SIZE, "patch_size": _PATCH, "output_channels": _WIDTH, "window_size": 0,
        "global_attn_indexes": [0, 1, 2, 3], "num_pos_feats": _WIDTH // 2, "initializer_range": 0.02,
    }
    prompts = {"hidden_size": _WIDTH, "image_size": PICTURE_SIZE, "patch_size": _PATCH, "mask_input_channels": 4}
    decoder = {
        "hidden_size": _WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_dim": 2 * _WIDTH,
        "iou_head_hidden_dim": _WIDTH,
    }
    return SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)


def random_start(seed: int) -> SamModel:
    """A model with random weights; equal seeds give equal weights."""
    torch.manual_seed(seed)
    model = SamModel(tiny_config())
    with torch.no_grad():
        # Transformers starts it for coordinates as fine as those of large pictures.
        positions = model.shared_image_embedding.positional_embedding
        positions.copy_(_WAVE_NUMBERS * torch.randn(positions.shape))
    return model


def trained_start(directory: epath.PathLike) -> SamModel:
    """The model of a checkpoint, to be trained further.

    Raises:
      OSError: it cannot be loaded.
    """
    return SamModel.from_pretrained(str(directory), local_files_only=True, use_safetensors=True)


def write_checkpoint(directory: epath.PathLike, model: SamModel, recipe: dict[str, Any]) -> epath.Path:
    """Writes a checkpoint that `--sam-model` takes; the directory appears complete or not at all.

    Args:
      directory: a local path that does not exist yet.
      model: trained.
      recipe: how it was made; stored with the checksums of all files as `recipe.json`.

    Raises:
      FileExistsError: the directory exists.
    """
    directory = epath.Path(directory)
    with atomic_directory(directory) as temporary:
        model.save_pretrained(str(temporary))
        (temporary / PREPROCESSOR).write_text(json.dumps(_preprocessor(), indent=2) + "\n")
        sums = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / RECIPE).write_text(json.dumps(recipe | {"sha256": sums}, indent=2, sort_keys=True) + "\n")
    return directory


def _preprocessor() -> dict[str, Any]:
    sides = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    return {
        "image_processor_type": "SamImageProcessor", "size": {"longest_edge": PICTURE_SIZE}, "pad_size": sides,
        "mask_size": {"longest_edge": PICTURE_SIZE}, "mask_pad_size": sides, "image_mean": MEAN,
        "image_std": DEVIATION, "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True,
        "do_convert_rgb": True, "rescale_factor": 1 / 255, "resample": 2,
    }
