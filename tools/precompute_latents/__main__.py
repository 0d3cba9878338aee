"""Encodes the images of reward records once, for all training runs that read them as they are stored.

Writes the same records, in the same shards and order, with a code of each image: the posterior of BAGEL's autoencoder,
for rows.latents=stored, the pooled features of BLIP3o's EVA-CLIP tower, for rows.features=stored, or the indices of
Janus-Pro's codebook, for rows.codes=stored. Give the experiment and the settings of rows.* with which you will train:
sizes and canvas are part of what is stored, and training refuses codes of others. All devices of this machine take
part; several machines can share the shards of one --out. An interrupted run keeps the shards that are finished: the
same command goes on.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import srum_jax
from srum_jax.command_line import in_range, set_up_streams, user_path
from srum_jax.data.errors import DataError
from srum_jax.data.records_source import RecordsSource, read_sidecars
from srum_jax.errors import BadInput
from srum_jax.experiment import experiment_names, load_recipe
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.registry import family, recognise
from srum_jax.overrides import add_set_argument, apply_overrides
from srum_jax.stages.interruption import run_command
from srum_jax.stages.processes import add_process_arguments, find_processes
from srum_jax.storage.errors import AccessError
from srum_jax.training.experiment import Experiment

_EPILOG = """\
examples:
  python -m tools.precompute_latents --experiment bagel_cot --checkpoint BAGEL-7B-MoT \\
      --records gs://bucket/records --out gs://bucket/records_latents
  python -m tools.precompute_latents --checkpoint converted --records records/ --out records_latents/ \\
      --set rows.max_size=512 --set rows.image_height=512 --set rows.image_width=512
  python -m tools.precompute_latents --experiment blip3o --checkpoint BLIP3o-Model-8B --records records/ \\
      --out records_features/
  python -m tools.precompute_latents ... --process-index 2 --num-processes 4    # the third of four machines

exit codes:
  0    done: all, or the share of this process
  1    failed, or a record cannot be used; finished shards stay
  2    bad arguments or input, or the folder holds other records, or some with other settings: there is no overwrite
  130  interrupted; finished shards stay, the same command goes on
"""


# What makes the `Coding` of a family, by the name of its function in `codings`.
_CODINGS = {"bagel": "posteriors", "blip3o": "features", "janus_pro": "codes"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    set_up_streams()
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    named = arguments.experiment
    own = recognise(arguments.checkpoint) if arguments.checkpoint else None
    rows = family(own).rows if own else BagelRows
    experiment = load_recipe(named).experiment if named else Experiment("latents", rows=rows())
    experiment = apply_overrides(experiment, arguments.set)
    checkpoint, rows = arguments.checkpoint or experiment.model.checkpoint, experiment.rows
    if not checkpoint:
        raise BadInput("--checkpoint: expected the directory of a checkpoint, found nothing, and the experiment names "
                       "none.")
    name = own or recognise(checkpoint)
    if not isinstance(rows, family(name).rows):
        raise BadInput(f"--experiment {experiment.name}: expected {family(name).rows.__name__}, as the checkpoint is "
                       f"{name}, found {type(rows).__name__}.")
    # These import JAX, which takes seconds.
    from srum_jax.devices import start_devices
    from tools.precompute_latents import codings
    from tools.precompute_latents.encoder import Encoder
    from tools.precompute_latents.rewrite import rewrite
    from tools.precompute_latents.target import Target

    processes = find_processes(arguments.process_index, arguments.num_processes, arguments.distributed)
    try:
        source = RecordsSource(arguments.records)
        sidecars = read_sidecars(source.directory, source.manifest)
    except DataError as error:
        raise BadInput(f"--records: {error}") from error
    start_devices()
    encoder = Encoder(checkpoint, family(name).architecture, getattr(codings, _CODINGS[name]), rows, arguments.dtype,
                      arguments.images_per_device)
    settings = {"encoder_sha256": encoder.sha256.hex(), "dtype": arguments.dtype, **encoder.coding.settings,
                "records_sha256": source.fingerprint, "package_version": srum_jax.__version__}
    try:
        target = Target(source.manifest, sidecars, arguments.out, settings)
    except (DataError, AccessError, PermissionError, FileExistsError, NotADirectoryError) as error:
        raise BadInput(f"--out: {error}") from error
    if target.manifest is not None:
        print(f"{arguments.out}: all is there already, made with the same settings")
        return
    left = rewrite(source, target, encoder, num_threads=experiment.data.num_threads, processes=processes)
    seconds = time.perf_counter() - began
    if left:
        print(f"{arguments.out}: the shards of this process are there, {len(left)} of {len(source.shards)} are not "
              f"(the first is {left[0]}). Who finishes the last one writes the manifest. When nobody works any "
              f"more, the command without --process-index and --num-processes makes what is left. {seconds:.1f} s")
        return
    manifest = target.manifest
    print(f"{arguments.out}: {manifest.num_records} records with latents, {manifest.num_bytes / 1e6:.1f} MB (without: "
          f"{source.manifest.num_bytes / 1e6:.1f} MB), {seconds:.1f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.precompute_latents", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=user_path, required=True, metavar="DIR", help="reward records")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="where to write; new, or begun by the same command")
    parser.add_argument("--checkpoint", type=user_path, metavar="DIR",
                        help="the checkpoint that will be trained, published or converted; of its weights only the "
                             "encoder is read (default: the experiment's model.checkpoint)")
    parser.add_argument("--experiment", type=user_path, metavar="NAME_OR_PATH",
                        help="whose settings of rows and data are taken: one of "
                        f"{', '.join(experiment_names())}; or a .py file (default: those of the model's rows)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="of the encoder's weights and activations (default: %(default)s)")
    parser.add_argument("--images-per-device", type=in_range(int, 1), default=4, metavar="K",
                        help="in a batch, one after the other on each device (default: %(default)s)")
    add_process_arguments(parser)
    add_set_argument(parser, Experiment("latents", rows=BagelRows()))
    return parser


if __name__ == "__main__":
    sys.exit(main())
