"""Command-line arguments that name a model and how it is computed, and loading what they name."""

import argparse

import jax

from srum_jax.families.bagel.generator import Pipeline
from srum_jax.inference.templates import Templates
from srum_jax.mesh_config import MeshConfig, MeshError

_AXES = ("data", "fsdp", "tensor")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "model"."""
    group = parser.add_argument_group("model")
    group.add_argument("--checkpoint", required=True, metavar="DIR",
                       help="a published BAGEL directory, or converted weights")
    group.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16",
                       help="of weights and activations (default: %(default)s)")
    group.add_argument("--attention", choices=("auto", "dense", "chunked", "splash"), default="auto",
                       help="auto: splash on TPUs, chunked elsewhere (default: %(default)s)")
    group.add_argument("--mesh", type=parse_mesh, metavar="data=1,fsdp=4,tensor=2",
                       help="how the devices of this process are used: copies of the model, shards of its weights, "
                            "shards of heads and MLP; -1 takes what the others leave (default: fsdp=-1)")
    group.add_argument("--templates", metavar="DIR", help="instructions of think mode in your own words; see "
                                                          "srum_jax/inference/template_files")


def parse_mesh(text: str) -> MeshConfig:
    """The mesh of "axis=size,...".

    Raises:
      argparse.ArgumentTypeError: it is not of this form.
    """
    sizes = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if axis not in _AXES or axis in sizes or not size.removeprefix("-").isdecimal():
            raise argparse.ArgumentTypeError(f"expected {', '.join(f'{axis}=SIZE' for axis in _AXES)}, separated by "
                                             f"commas, found {part!r} in {text!r}")
        sizes[axis] = int(size)
    fill = {} if -1 in sizes.values() or "fsdp" in sizes else {"fsdp": -1}
    return MeshConfig(**({"data": 1} | sizes | fill))


def load_pipeline(args: argparse.Namespace, templates: Templates, *, understanding: bool) -> Pipeline:
    """Loads the model that the arguments name.

    Raises:
      BadInput: the checkpoint or the mesh cannot be used.
    """
    platform = jax.local_devices()[0].platform
    if args.attention == "splash" and platform != "tpu":
        raise MeshError(f"--attention splash: is a TPU kernel, found devices of platform {platform}; use auto.")
    return Pipeline.load(args.checkpoint, mesh=args.mesh, dtype=args.dtype, attention=args.attention,
                         templates=templates, understanding=understanding)
