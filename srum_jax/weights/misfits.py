"""Why a whole checkpoint does not fit a model: one cause, said in one line instead of once per tensor."""

from collections import Counter
from collections.abc import Mapping

from srum_jax.models.architecture import Architecture
from srum_jax.weights.dtypes import NAMES, WEIGHT_DTYPES
from srum_jax.weights.table import SourceTensor, published_tensors


def common_cause(
    architecture: Architecture, sources: Mapping[str, SourceTensor], targets: Mapping[str, tuple[int, ...]]
) -> str | None:
    """What is wrong with the checkpoint as a whole, so that no list of its tensors would help.

    Args:
      architecture: of the model.
      sources: the checkpoint's tensors.
      targets: path and shape of every array of the model.
    """
    expected = published_tensors(architecture.table_of(sources), targets)
    return _adapter(sources) or _quantised(sources, expected) or _prefixed(sources, expected)


def absent_parts(
    architecture: Architecture, sources: Mapping[str, SourceTensor], targets: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Optional parts that the model has and the checkpoint lacks altogether, and what to say of each."""
    there = {architecture.part_of(name) for name in sources}
    absent = {}
    for part, names in _by_part(architecture, sources, targets).items():
        if part not in there:
            files = [file for file in architecture.files if file.part == part]
            homes = " or ".join(file.glob for file in files)
            if any(file.pickled for file in files):
                remedy = (f"make {homes} of the pickled file that is published "
                          "(python -m tools.convert_weights unpickle)")
            elif homes:
                remedy = f"copy {homes} of the released checkpoint beside the weights"
            else:
                remedy = ("fill these weights up with it first and give the filled folder (import --without "
                          f"{part}, then export with a template that has it: docs/convert_weights.md)")
            absent[part] = (f"the {architecture.parts[part].title} is missing: expected {len(names)} tensors such as "
                            f"'{names[0]}'{f' in {homes}' if homes else ''}, found none; {remedy}, or leave the part "
                            f"out where that is offered (import --without {part})")
    return absent


def _by_part(
    architecture: Architecture, sources: Mapping[str, SourceTensor], targets: Mapping[str, tuple[int, ...]]
) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for name in published_tensors(architecture.table_of(sources), targets):
        if (part := architecture.part_of(name)) is not None:
            parts.setdefault(part, []).append(name)
    return parts


def _adapter(sources: Mapping[str, SourceTensor]) -> str | None:
    """Whether factors of an adapter are among the tensors, by the names that PEFT gives them."""
    factors = [name for name in sources if ".lora_" in name]
    if not factors:
        return None
    return (f"{len(factors)} of {len(sources)} tensors are factors of a LoRA adapter, for instance '{factors[0]}'; "
            "merge it into the model that it was trained on (PEFT: merge_and_unload), and give the result")


def _quantised(sources: Mapping[str, SourceTensor], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """Whether tensors with the names of weights, or nearly so, are stored as other than floats."""
    stems = {name.rpartition(".")[0] for name in expected}
    odd = {name: tensor.dtype for name, tensor in sources.items() if tensor.dtype not in WEIGHT_DTYPES
           and (name in expected or any(name.startswith(f"{stem}.") for stem in _stems(name) & stems))}
    if not odd:
        return None
    counts = ", ".join(f"{count} as {NAMES[dtype]}" for dtype, count in Counter(odd.values()).items())
    known = ", ".join(NAMES[dtype] for dtype in WEIGHT_DTYPES)
    return (f"the weights are quantised: {len(odd)} of {len(sources)} tensors are stored as other than {known}, for "
            f"instance '{next(iter(odd))}' ({counts}); take the checkpoint that was not quantised")


def _stems(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _prefixed(sources: Mapping[str, SourceTensor], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """Whether most names would fit without what they begin with, as a wrapper around the saved model leaves it."""
    fitting = sum(name in expected for name in sources)
    starts = Counter(name.removesuffix(known) for name in sources for known in _ends(name) if known in expected)
    starts.pop("", None)
    if not starts:
        return None
    prefix, count = starts.most_common(1)[0]
    if count <= fitting:
        return None
    example = next(name for name in sources if name.startswith(prefix))
    return (f"{count} of {len(sources)} tensors carry the prefix '{prefix}', for instance '{example}': expected "
            f"'{example.removeprefix(prefix)}'; save the model without what is wrapped around it, or rename them")


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]
