"""Command line of the converter: `python -m tools.convert_weights import|export|unpickle`."""

import argparse
import logging
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.errors import BadInput, exit_code, tell
from srum_jax.families.registry import NAMES, family, recognise
from srum_jax.stages.interruption import ends_in_time
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.run_folder import FORMS
from tools.convert_weights.output_directory import check_name

if TYPE_CHECKING:
    from srum_jax.weights.checkpoint import Checkpoint

_EPILOG = """\
examples:
  python -m tools.convert_weights import --source BAGEL-7B-MoT --out converted
  python -m tools.convert_weights import --source BAGEL-7B-MoT --out converted_f32 --dtype float32
  python -m tools.convert_weights unpickle --source EVA/pytorch_model.bin --out BLIP3o/eva_clip_vision_tower
  python -m tools.convert_weights export --checkpoint workdir --template BAGEL-7B-MoT --out exported/BAGEL-7B-MoT
  python -m tools.convert_weights export --adapter --checkpoint lora_run --template BAGEL-7B-MoT --out adapter

exit codes: 0 done, 1 failed while writing, 2 unusable input or arguments, 130 interrupted.
Nothing is left behind unless the exit code is 0.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert_weights",
        description="Converts weights between published checkpoints and ours.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="import|export|unpickle")
    from_published = commands.add_parser("import", help="from a published checkpoint to converted weights")
    from_published.add_argument("--model", choices=NAMES, help="family of the model (default: what the source is)")
    from_published.add_argument("--source", type=user_path, required=True, metavar="HF_DIR",
                                help="published checkpoint: a directory, or one safetensors file of it")
    from_published.add_argument("--out", type=user_path, required=True, metavar="CKPT_DIR",
                                help="directory to be made")
    from_published.add_argument("--dtype", choices=("bfloat16", "float32"),
                                help="of all arrays (default: each as the source has it)")
    from_published.add_argument("--without", action="append", default=[], metavar="PART",
                                help="leave an optional part out, or do not expect it; of BAGEL: vit (the vision "
                                     "tower), vae (the autoencoder); of BLIP3o: vision, eva (the towers that read "
                                     "and that are trained on), decoder (which draws)")
    to_published = commands.add_parser("export", help="from converted weights or a training run to that "
                                                      "layout")
    to_published.add_argument("--model", choices=NAMES, help="family of the model (default: what the template is)")
    to_published.add_argument("--checkpoint", type=user_path, required=True, metavar="CKPT_DIR",
                              help="converted weights, a training run's directory, or one step of it")
    to_published.add_argument("--template", type=user_path, required=True, metavar="HF_DIR",
                              help="published checkpoint that gives names, dtypes, and what the checkpoint "
                                   "lacks")
    to_published.add_argument("--out", type=user_path, required=True, metavar="DIR",
                              help="directory to be made")
    to_published.add_argument("--weights", choices=sorted(FORMS),
                              help="of a training run: the average of the weights (ema) or the weights of the last "
                                   "update (raw); default: ema if the run keeps one")
    to_published.add_argument("--adapter", action="store_true",
                              help="of a LoRA run: the low-rank factors alone, in the format of PEFT")
    from_pickled = commands.add_parser("unpickle", help="from pickled weights of PyTorch (.bin) to safetensors, by "
                                                        "PyTorch in a process of its own; needs srum-jax[rewards]")
    from_pickled.add_argument("--source", type=user_path, required=True, metavar="FILE_OR_DIR",
                              help="one .bin file, or a directory of them")
    from_pickled.add_argument("--out", type=user_path, required=True, metavar="DIR", help="directory to be made")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)
    try:
        with ends_in_time():  # a preempted run tidies up like an interrupted one
            if arguments.command == "import":
                _import(arguments)
            elif arguments.command == "export":
                _export(arguments)
            else:
                _unpickle(arguments)
    except BadInput as error:
        return tell(error)
    except OSError as error:
        return tell(f"{str(error).rstrip('.')}. Nothing was left behind.", exit_code(error))
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind.", file=sys.stderr)
        return 130
    return 0


def _open(arguments: argparse.Namespace, path: str, without: Sequence[str] = ()) -> "Checkpoint":
    import jax  # here and below: takes seconds, in which arguments that are wrong have been refused

    from srum_jax.weights.checkpoint import open_checkpoint

    jax.config.update("jax_platforms", "cpu")  # only shapes are computed; leave the accelerators alone
    architecture = family(arguments.model or recognise(path)).architecture
    if unknown := [part for part in without if part not in architecture.parts]:
        raise WeightsError(f"--without {unknown[0]}: expected an optional part of {architecture.name}: "
                           f"{', '.join(architecture.parts)}.")
    return open_checkpoint(path, architecture, [part for part in architecture.parts if part not in without])


def _import(arguments: argparse.Namespace) -> None:
    check_name(epath.Path(arguments.out))
    source = _open(arguments, arguments.source, arguments.without)
    for part, described in source.architecture.parts.items():
        if part not in source.parts and part not in arguments.without:
            raise WeightsError(f"--source {arguments.source}: its configuration describes no {described.title}; copy "
                               "what is missing from the published checkpoint, or say that none is expected "
                               f"(--without {part}).")
    from tools.convert_weights.import_ import import_weights

    began = time.monotonic()
    manifest = import_weights(source, arguments.out, dtype=arguments.dtype)
    for reason, count in Counter(manifest.ignored.values()).items():
        names = [name for name, why in manifest.ignored.items() if why == reason]
        print(f"ignored {count} tensors ({names[0]}{', ...' if count > 1 else ''}): {reason}")
    for path in manifest.computed:
        print(f"computed {path}: the source has no tensor for this constant")
    _print_done(arguments.out, f"{len(source.published.plan.by_source())} tensors in {len(manifest.tensors)} arrays",
                began)


def _print_done(out: str, what: str, began: float) -> None:
    num_bytes = sum(file.stat().st_size for file in pathlib.Path(out).rglob("*.safetensors") if not file.is_symlink())
    seconds = time.monotonic() - began
    print(f"{out}: {what}, {num_bytes / 1e9:.3f} GB, {seconds:.1f} s ({num_bytes / 1e6 / max(seconds, 1e-9):.0f} MB/s)")


def _unpickle(arguments: argparse.Namespace) -> None:
    from tools.convert_weights.unpickle import unpickle

    for path in unpickle(arguments.source, arguments.out):
        print(path)


def _export(arguments: argparse.Namespace) -> None:
    check_name(epath.Path(arguments.out))
    template = _open(arguments, arguments.template)
    if arguments.adapter:
        from tools.convert_weights.adapter import export_adapter

        opened = export_adapter(arguments.checkpoint, template, arguments.out, form=arguments.weights)
        print(f"{arguments.out}: low-rank factors of rank {opened.lora.rank} from {opened.path} ({opened.form})")
        return
    from tools.convert_weights.export import REPORT, export_weights

    began = time.monotonic()
    report = export_weights(arguments.checkpoint, template, arguments.out, form=arguments.weights)
    if report["weights"] == "ema":
        print("averaged weights (ema); --weights raw exports those of the last update")
    if report["lora_merged"]:
        print("LoRA: low-rank factors merged into the template's weights")
    completed = report["tensors_from_template"]
    if completed:
        print(f"taken from the template, because {report['checkpoint']} does not have them:")
        for group, count in completed.items():
            print(f"  {group}: {count} tensor{'s' * (count != 1)}")
    for part in report["parts_absent"]:
        print(f"not written, the {template.architecture.parts[part].title}: {arguments.template} has none; copy it "
              "from the published checkpoint beside the result where it is needed")
    for name in report["tensors_computed"]:
        print(f"computed {name}: neither has a tensor for this constant")
    _print_done(arguments.out, f"{report['tensors_from_checkpoint']} tensors from {report['checkpoint']}, "
                               f"{sum(completed.values())} from the template (see {REPORT})", began)


if __name__ == "__main__":
    sys.exit(main())
