"""`python -m srum_jax.demo`: see `arguments.py` for what can be said to it."""

import importlib.util
import sys
from collections.abc import Sequence

from srum_jax.command_line import set_up_streams
from srum_jax.demo.arguments import read_arguments
from srum_jax.errors import BadInput
from srum_jax.stages.interruption import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments, settings = read_arguments(argv)
    if importlib.util.find_spec("gradio") is None:
        raise BadInput("The page needs Gradio, which is not installed; pip install 'srum-jax[demo]'.")
    set_up_streams()
    from srum_jax.demo.serving import serve  # which loads JAX and Gradio

    return serve(arguments, settings)


if __name__ == "__main__":
    sys.exit(main())
