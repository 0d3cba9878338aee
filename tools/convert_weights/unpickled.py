"""The process that reads one pickled file: `python -m tools.convert_weights.unpickled FILE TARGET`."""

import pickle
import sys


def main(source: str, target: str) -> str | None:
    """Writes the tensors of `source` to `target`; returns what is wrong, if something is."""
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        return f"pickled weights need PyTorch ({error}); pip install 'srum-jax[rewards]'."
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return "expected tensors alone, found a pickle that would run other code; do not trust this file."
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        return f"not a file of PyTorch ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
    if not isinstance(content, dict) or not content or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        return "expected a dictionary from names to tensors, found something else."
    # Copies: tensors may share memory, or be views of it.
    save_file({name: value.detach().clone().contiguous() for name, value in content.items()}, target)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
