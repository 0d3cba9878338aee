"""Where a training run keeps its steps, and what a directory is that somebody takes for a checkpoint."""

from etils import epath

from srum_jax.storage.object_store import is_local

PARAMS = "params"
EMA = "ema"  # average of the parameters; not every run keeps one
FORMS = {"raw": PARAMS, "ema": EMA}  # what `--weights` takes, and where a step has it
# In a bucket a step has its final name from the first byte on, and this file from the last. On a disk it is renamed.
_COMPLETE = "commit_success.txt"
ADAPTER_FILE = "adapter_model.safetensors"  # of PEFT: low-rank factors


def find_step(path: epath.PathLike) -> epath.Path | None:
    """The finished step that a path means: itself, or the latest one of a `checkpoints` directory or of a
    workdir.

    Returns:
      None if the path holds no training checkpoint.
    """
    path = epath.Path(path)
    if _is_step(path):
        return path
    for directory in (path / "checkpoints", path):
        if directory.is_dir():
            steps = [child for child in directory.iterdir() if child.name.isdecimal() and _is_step(child)]
            if steps:
                return max(steps, key=lambda step: int(step.name))
    return None


def hint(directory: epath.Path) -> str | None:
    """What to do about a directory that was given for a published checkpoint and is known to be something else."""
    if find_step(directory) is not None:
        return ("It belongs to a training run: export that first (python -m tools.convert_weights export --checkpoint "
                f"{directory} --template HF_DIR --out DIR), and give the result.")
    if (directory / ADAPTER_FILE).exists():
        return "It is a LoRA adapter without its model: export the run without --adapter, and give the result."
    snapshots = directory if directory.name == "snapshots" else directory / "snapshots"
    if snapshots.is_dir() and (found := sorted(path.name for path in snapshots.iterdir())):
        return f"It is the root of a download cache: give {snapshots / found[-1]}."
    return None


def _is_step(path: epath.Path) -> bool:
    return (path / PARAMS / "_METADATA").exists() and (is_local(path) or (path / _COMPLETE).exists())
