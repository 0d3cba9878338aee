"""Which comparisons a case folder of BAGEL calls for."""

import tempfile

from etils import epath
from flax import nnx

from srum_jax.errors import BadInput
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from tools.check_parity import adamw_case, autoencoder_case, inference_case, rewards, training_case, units
from tools.check_parity.result import GroupResult, Unchecked, unknown_files
from tools.check_parity.tensors import read_tensors, reading
from tools.convert_weights.import_ import import_weights

_WEIGHTS = ("ema.safetensors", "ae.safetensors")
_DESCRIPTIONS = ("KEYS.md", "README.md", "config.json", "llm_config.json", "vit_config.json", "vae_config.json")


def check(directory: epath.PathLike) -> list[GroupResult | Unchecked]:
    """Recomputes whatever the folder holds.

    Args:
      directory: a model case (weights with `train_*`, `vae`, `infer` files), a `units` case or a `rewards` case.

    Raises:
      BadInput: if it is none of these.
    """
    directory = epath.Path(directory)
    if not directory.is_dir():
        raise BadInput(f"{directory}: expected a case folder, found no directory.")
    names = sorted(path.name for path in directory.iterdir() if not is_hidden(path.name))
    if "units.safetensors" in names:
        with reading(directory):
            return units.check(directory)
    if "reward_maps.json" in names:
        with reading(directory):
            return rewards.check(directory)
    if "ema.safetensors" in names:
        return _check_model(directory, names)
    raise BadInput(f"{directory}: expected ema.safetensors, units.safetensors or reward_maps.json, found "
                    f"{', '.join(names[:10]) or 'an empty directory'}.")


def _parts(sees: bool) -> set[str]:
    return {"vit", "vae"} if sees else {"vae"}


def _check_model(directory: epath.Path, names: list[str]) -> list[GroupResult | Unchecked]:
    results: list[GroupResult | Unchecked] = []
    seen = {*_WEIGHTS, *_DESCRIPTIONS}
    with tempfile.TemporaryDirectory() as scratch:
        converted = epath.Path(scratch) / "converted"
        import_weights(open_checkpoint(directory, BAGEL), converted)
        opened = {sees: open_checkpoint(converted, BAGEL, _parts(sees)) for sees in (True, False)}
        models = {sees: (checkpoint.config, *load(checkpoint)) for sees, checkpoint in opened.items()}
    if "vae.safetensors" in names:
        seen.add("vae.safetensors")
        config, graphdef, state = models[True]
        with reading(directory / "vae.safetensors"):
            vae = nnx.merge(graphdef, state).vae
            results += autoencoder_case.check(vae, read_tensors(directory / "vae.safetensors"))
    for file in names:
        name = file.removesuffix(".safetensors")
        if not file.startswith("train_") or name == file or name.endswith("_adamw"):
            continue
        with reading(directory / file):
            tensors = read_tensors(directory / file)
            # Text-to-image cases were made with a model that was built without its vision tower.
            sees = "in.packed_vit_tokens" in tensors
            config, graphdef, state = models[sees]
            plan = open_checkpoint(directory, BAGEL, _parts(sees)).published.plan
            case = training_case.load_case(directory, name, tensors, config, graphdef, state, plan)
            results += training_case.check(case)
            seen |= {file, f"{name}_reward01.json", f"{name}_param_names.json"}
            adamw = f"{name}_adamw.safetensors"
            if adamw in names:
                results += adamw_case.check(case, f"{name}_adamw", read_tensors(directory / adamw))
                seen.add(adamw)
    if "infer.safetensors" in names:
        with reading(directory / "infer.safetensors"):
            results += inference_case.check(directory, *models[True][1:])
        seen |= {"infer.safetensors", "infer.json"}
    return results + unknown_files(directory, seen)
