"""Who judges, as the command line names it. What the judge needs is loaded when it is opened, not before."""

import argparse
import dataclasses
import hashlib
import importlib
from collections.abc import Callable
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, user_path
from srum_jax.errors import BadInput
from srum_jax.families.registry import family_of
from srum_jax.inference.templates import Templates
from srum_jax.judges.endpoint import EndpointConfig, EndpointJudge
from srum_jax.judges.protocol import Judge
from srum_jax.model_arguments import load_pipeline, precision_of
from srum_jax.storage.reading import why_absent
from srum_jax.weights.fingerprint import checkpoint_fingerprint, directory_fingerprint

KINDS = ("transformers", "endpoint", "replay", "model", "detector", "results", "oracle")


@dataclasses.dataclass(frozen=True)
class NamedJudge:
    """A judge before anything is loaded.

    Attributes:
      identity: `id` and `revision`, and what else decides the replies; without paths.
      looks: whether it is given pictures.
      open: loads it.
    """

    identity: dict[str, Any]
    looks: bool
    open: Callable[[], Judge]


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "judge"."""
    group = parser.add_argument_group("judge")
    group.add_argument("--judge", metavar="WHO",
                       help="transformers:DIR: a vision-language model in PyTorch; endpoint:URL,MODEL: "
                            "an OpenAI-compatible server; replay:FILE: recorded replies; "
                            "detector:DIR[,CLIP_DIR] and results:FILE: for GenEval, a detector in PyTorch, or what the "
                            "official scorer has written; "
                            "model: the checkpoint itself, or model:DIR another; oracle: the rule of the world of "
                            "shapes")
    group.add_argument("--judge-revision", metavar="TEXT", help="of the model behind an endpoint, for the results")
    group.add_argument("--judge-batch-size", type=in_range(int, 1), default=8, metavar="N",
                       help="items judged and committed together (default: %(default)s)")


def named_judge(text: str, benchmark: str, arguments: argparse.Namespace, endpoint: EndpointConfig) -> NamedJudge:
    """The judge of `--judge`.

    Args:
      text: KIND or KIND:SOURCE.
      benchmark: whose replies a file of replies is to have.
      arguments: of `add_judge_arguments` and `add_model_arguments`.
      endpoint: how a server is asked.

    Raises:
      BadInput: there is no such judge.
    """
    kind, _, source = text.partition(":")
    source = user_path(source)
    if kind == "replay" and source:
        return _replay(source, benchmark)
    if kind == "transformers" and source:
        return _transformers(source)
    if kind == "endpoint" and source:
        return _endpoint(source, arguments.judge_revision, endpoint)
    if kind == "detector" and source:
        return _detector(source)
    if kind == "results" and source:
        results = importlib.import_module("srum_jax.evaluation.geneval_results").OfficialResults
        identity = {"id": results.id, "revision": None, "file_sha256": _sha256(source)}
        return NamedJudge(identity, False, lambda: results(source))
    if kind == "model":
        return _model(source or arguments.checkpoint, arguments)
    if kind == "oracle" and not source:
        oracle = importlib.import_module("srum_jax.worlds.shapes.benchmark").OracleJudge
        return NamedJudge({"id": oracle.id, "revision": oracle.revision}, True, oracle)
    raise BadInput(f"--judge {text}: expected one of {', '.join(KINDS)}, with what its help says behind a colon.")


def _replay(source: str, benchmark: str) -> NamedJudge:
    from srum_jax.judges.replay import ReplayJudge

    judge = ReplayJudge(source, benchmark)
    identity = {**judge.judge, "file_sha256": _sha256(source)}
    return NamedJudge(identity, False, lambda: judge)


def _transformers(source: str) -> NamedJudge:
    directory = epath.Path(source)
    if not directory.is_dir():
        raise BadInput(f"--judge transformers:{source}: {why_absent(directory)}; expected a directory with a "
                       "checkpoint.")

    def opened() -> Judge:
        from srum_jax.judges.transformers import HuggingFaceJudge

        return HuggingFaceJudge(directory, "")

    return NamedJudge({"id": directory.name, "revision": directory_fingerprint(directory)}, True, opened)


def _endpoint(source: str, revision: str | None, config: EndpointConfig) -> NamedJudge:
    url, comma, model = source.partition(",")
    if not comma or not model:
        raise BadInput("--judge endpoint: expected endpoint:URL,MODEL, found no model.")
    judge = EndpointJudge(url, model, config)
    return NamedJudge({"id": model, "revision": revision}, True, lambda: judge)


def _detector(source: str) -> NamedJudge:
    detector, _, clip = source.partition(",")
    directories = [epath.Path(user_path(path)) for path in (detector, clip) if path]
    for directory in directories:
        if not directory.is_dir():
            raise BadInput(f"--judge detector:{source}: {directory}: {why_absent(directory)}; expected a directory "
                           "with a checkpoint.")

    def opened() -> Judge:
        from srum_jax.judges.detector import DetectorJudge

        return DetectorJudge(*directories)

    return NamedJudge({"id": "+".join(directory.name for directory in directories),
                       "revision": "+".join(map(directory_fingerprint, directories))}, True, opened)


def _sha256(path: str) -> str:
    if not epath.Path(path).exists():
        raise BadInput(f"--judge: {path}: {why_absent(path)}.")
    return hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()


def _model(source: str | None, arguments: argparse.Namespace) -> NamedJudge:
    if source is None:
        raise BadInput("--judge model: expected --checkpoint, or model:DIR; found neither.")
    revision = checkpoint_fingerprint(source, family_of(source).architecture)
    asked = argparse.Namespace(**{**vars(arguments), "checkpoint": source})

    def opened() -> Judge:
        from srum_jax.judges.own_model import ModelJudge

        pipeline = load_pipeline(asked, Templates.read(arguments.templates), understanding=True)
        return ModelJudge(pipeline, arguments.judge_batch_size)

    return NamedJudge({"id": epath.Path(source).name, "revision": revision, **precision_of(arguments)}, True, opened)
