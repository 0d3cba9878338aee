"""Command-line arguments that name a model and how it is computed, and loading what they name.

Reading arguments imports no array library.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from srum_jax import command_line
from srum_jax.command_line import user_path
from srum_jax.errors import Failure
from srum_jax.inference.templates import Templates
from srum_jax.models.compute import ATTENTION_NAMES, QUANTIZED_DTYPES

if TYPE_CHECKING:
    from srum_jax.inference.protocols import Checker
    from srum_jax.pipeline import Pipeline


def add_model_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds the group "model".

    Args:
      parser: of the command.
      required: whether the command always needs a model.
    """
    group = parser.add_argument_group("model")
    group.add_argument("--checkpoint", type=user_path, required=required, metavar="DIR",
                       help="a published checkpoint, or converted weights")
    group.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16",
                       help="of weights and activations (default: %(default)s)")
    group.add_argument("--quantize", choices=QUANTIZED_DTYPES,
                       help="keep the matrices of all layers as integers of this type, in half or a quarter of the "
                            "memory that bfloat16 takes (default: as --dtype says)")
    group.add_argument("--attention", choices=ATTENTION_NAMES, default="auto",
                       help="auto: splash on TPUs, cudnn on NVIDIA GPUs where it runs, chunked elsewhere "
                            "(default: %(default)s)")
    group.add_argument("--mesh", type=command_line.mesh(("data", "fsdp", "tensor"), rest="fsdp"),
                       metavar="data=1,fsdp=4,tensor=2",
                       help="how the devices of this process are used: copies of the model, shards of its weights, "
                            "shards of heads and MLP; -1 takes what the others leave (default: fsdp=-1)")
    group.add_argument("--templates", type=user_path, metavar="DIR",
                       help="instructions of think mode in your own words; see "
                            "srum_jax/inference/template_files")
    group.add_argument("--control-tokens", action="store_true", help="names of control tokens inside a prompt act as "
                       "such, as in the published code; without it they are text like any other")


def load_pipeline(
    args: argparse.Namespace, templates: Templates, *, understanding: bool, sampler: Any = None, least_text: int = 0
) -> "Pipeline":
    """Loads the model that the arguments name; see `pipeline.load`.

    Raises:
      BadInput: the checkpoint, the devices or the mesh cannot be used.
    """
    from srum_jax.pipeline import load

    return load(args.checkpoint, sampler=sampler, mesh=args.mesh, dtype=args.dtype, attention=args.attention,
                templates=templates, understanding=understanding, control_tokens=args.control_tokens,
                least_text=least_text, quantize=args.quantize)


def precision_of(args: argparse.Namespace) -> dict[str, str]:
    """How exactly the model that the arguments name computes, for the settings that a stage notes."""
    return {"dtype": args.dtype} | ({"quantize": args.quantize} if args.quantize else {})


def checker_of(args: argparse.Namespace, templates: Templates) -> "Checker":
    """What the model that the arguments name would check requests with; its weights are not read.

    Raises:
      BadInput: its small files cannot be used.
    """
    from srum_jax.pipeline import checker

    return checker(args.checkpoint, templates=templates, control_tokens=args.control_tokens)


@contextlib.contextmanager
def device_failures(advice: str = "") -> Iterator[None]:
    """Inside, an error of the devices is a `Failure` of one line, which ends with the advice."""
    try:
        yield
    except RuntimeError as error:
        jax = sys.modules.get("jax")  # not there: nothing was computed
        if jax is None or not isinstance(error, jax.errors.JaxRuntimeError):
            raise
        raise Failure(f"the devices failed: {str(error).splitlines()[0]} {advice}".strip()) from error
