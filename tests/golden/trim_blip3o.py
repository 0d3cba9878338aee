"""Makes the copy of a recorded case of BLIP3o that lies here: `python -m tests.golden.trim_blip3o SOURCE TARGET`.

Left out are Qwen's vision tower with all that needs it, pictures that can be prepared again from their source, inner
layers between recorded ones, and gradients of all but a few parameters. A case with a pixel decoder gives that alone,
without its encoder, and of its records the input and what is drawn.
"""

import pathlib
import re
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

_FILES = ("eva", "llm_text", "preprocess", "sampling", "srum", "srum_grads", "train")
_LEFT_OUT = re.compile(
    r"visual\..+"
    r"|eva/(images|block_0|patch_embed|features)"  # prepared from raw_0; seen in block_1
    r"|preprocess/(eva_pixel_values_\d|raw_1|qwen_grid_thw_1)"
    r"|(train|llm_text)/(llm_)?hidden_[0-3]|llm_text/logits"  # seen in the last, and in gen_logits
    r"|train/(drop1\.condition|noisy_latents|target|nodrop\.dit_layer_[12])"
    r"|sampling/(s\d+\.tokens|s4\.pred_(\w+_[12]|guided_\d))|srum/reward_map_\w+"
)
_DECODER = "diffusion-decoder"
_NO_ENCODER = re.compile(r"(?!encoder\.|quant_conv\.).+")
_DRAWN = re.compile(r"prompt_embeds|initial_noise|latents_final|image_uint8|image_float")
_GRADIENT_BYTES = 3200  # largest of those that stay
_GRADIENTS = re.compile(r"nodrop\.signed\.lambda0\.5\..+|drop1\..+latent_queries|full\.model\.latent_queries|[^.]+")


def stays(name: str, values: np.ndarray) -> bool:
    """Whether a tensor, as FILE/NAME or a weight, is part of the trimmed case."""
    if name.startswith("srum_grads/"):
        return bool(_GRADIENTS.fullmatch(name.removeprefix("srum_grads/"))) and values.nbytes <= _GRADIENT_BYTES
    return not _LEFT_OUT.fullmatch(name)


def trim(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a case without its largest parts."""
    if (source / _DECODER).is_dir():
        _trim_decoder(source, target)
        return
    (target / "eva_clip_vision_tower").mkdir(parents=True)
    tower = "eva_clip_vision_tower/model.safetensors"
    shutil.copyfile(source / tower, target / tower)
    for path in source.glob("*.json"):
        shutil.copyfile(path, target / path.name)
    files = {"model.safetensors": "", **{f"golden_{name}.safetensors": f"{name}/" for name in _FILES}}
    for file, prefix in files.items():
        save_file({name: values for name, values in load_file(source / file).items() if stays(prefix + name, values)},
                  target / file)


def _trim_decoder(source: pathlib.Path, target: pathlib.Path) -> None:
    for path in sorted((source / _DECODER).glob("*/*.json")):
        (target / path.parent.relative_to(source)).mkdir(parents=True)
        shutil.copyfile(path, target / path.relative_to(source))
    weights = "diffusion_pytorch_model.bf16.safetensors"
    for file, kept in ((f"{_DECODER}/unet/{weights}", _NO_ENCODER), (f"{_DECODER}/vae/{weights}", _NO_ENCODER),
                       ("golden_decoder.safetensors", _DRAWN)):
        save_file({name: values for name, values in load_file(source / file).items() if kept.fullmatch(name)},
                  target / file)


if __name__ == "__main__":
    trim(*map(pathlib.Path, sys.argv[1:]))
