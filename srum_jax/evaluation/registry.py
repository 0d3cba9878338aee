"""The benchmarks that there are. Only the one that is asked for is imported."""

import importlib
import importlib.resources
from collections.abc import Mapping

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import Benchmark
from srum_jax.rewards.judgement.judge_templates import JudgeTemplate

_BENCHMARKS = {
    "t2i_compbench": ("srum_jax.evaluation.t2i_compbench", "T2ICompBench"),
    "geneval": ("srum_jax.evaluation.geneval", "GenEval"),
    "wise": ("srum_jax.evaluation.wise", "Wise"),
    "reasonbench": ("srum_jax.evaluation.reasonbench", "ReasonBench"),
    "mme": ("srum_jax.evaluation.mme", "Mme"),
    "mmvp": ("srum_jax.evaluation.mmvp", "Mmvp"),
    "per_step": ("srum_jax.evaluation.per_step", "PerStep"),
    "shapes": ("srum_jax.worlds.shapes.benchmark", "Shapes"),
}
NAMES = tuple(_BENCHMARKS)


def open_benchmark(
    name: str, protocol: str | None = None, template: str | None = None, drawn_as: str = ""
) -> Benchmark:
    """A benchmark under a protocol.

    Args:
      name: one of NAMES.
      protocol: None for the first one that the benchmark has.
      template: the question to the judge in words of the user's own; None for those of this package; empty where
        nobody is asked.
      drawn_as: steps and "think" or "no_think", for layouts that say them in names of folders.

    Raises:
      BadInput: no such protocol; or its question is the benchmark's own and was not given.
    """
    module, kind = _BENCHMARKS[name]
    found = getattr(importlib.import_module(module), kind)
    protocols: Mapping[str, str | None] = found.protocols
    protocol = next(iter(protocols)) if protocol is None else protocol
    if protocol not in protocols:
        raise BadInput(f"--protocol: expected one of {', '.join(protocols)} for {name}, found {protocol!r}.")
    shipped = protocols[protocol]
    if template is None and shipped is None and found.max_new_tokens:
        raise BadInput(f"--judge-template: protocol {protocol} is asked in {name}'s own words, which are not part of "
                       f"this package: expected a file with them ({', '.join(found.placeholders)} where they belong).")
    if template is None and shipped is not None:
        template = (importlib.resources.files("srum_jax.evaluation") / "templates" / shipped).read_text("utf-8")
    if template is None:
        template = ""
    for placeholder in found.placeholders if template else ():
        if placeholder not in template:
            raise BadInput(f"--judge-template: expected {placeholder} in it, where the judge is to read it.")
    return found(protocol, JudgeTemplate(template.strip(), max(found.max_new_tokens, 1)), drawn_as)
