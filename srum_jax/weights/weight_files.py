"""Which weight files of a published checkpoint are read, and why.

A directory may hold several that could be meant: the tools of BAGEL's and SRUM's authors write `model.safetensors`
(trained weights) into copies of a directory whose index still names `ema.safetensors`, and a trainer saves both. So an
index decides nothing that the files can tell by themselves, and where two could be meant, none is chosen.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from srum_jax.models.architecture import Architecture, WeightFile
from srum_jax.storage.object_store import is_local
from srum_jax.storage.reading import is_hidden, why_absent
from srum_jax.weights.converted import is_converted
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.run_folder import hint
from srum_jax.weights.safetensors_read import SafetensorsFile

INDEX = "model.safetensors.index.json"
_ENDING = ".safetensors"
_SHARD = re.compile(r"(.*-)(\d+)(-of-)(\d+)(\.safetensors)")


@dataclasses.dataclass(frozen=True)
class WeightFiles:
    """The files of a checkpoint that are read.

    Attributes:
      directory: of the checkpoint.
      entries: path of each file relative to it, and what the architecture says of it.
      why: these and no others; for messages.
      index: tensor -> file, where there is an index.
      doubts: how the index contradicts what is there.
      stale: the same where it names what the architecture knows and finds by itself; following it could lead to
        another model.
      folders: directories inside it whose small files belong to the checkpoint, too.
    """

    directory: epath.Path
    entries: Mapping[str, WeightFile]
    why: str
    index: Mapping[str, str]
    doubts: tuple[str, ...]
    stale: tuple[str, ...]
    folders: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.directory} ({', '.join(self.entries)})"


def choose_files(path: epath.PathLike, architecture: Architecture, parts: frozenset[str]) -> WeightFiles:
    """Finds the files to read. None is opened but the index, and headers of files that could both be meant.

    Args:
      path: the checkpoint's directory, or one weight file in it, which then is the one that is meant; a shard stands
        for all of its set.
      architecture: knows what files are called.
      parts: optional parts that are wanted; the files of others are left alone.

    Raises:
      WeightsError: there is nothing to read, or more than one thing that could be meant.
    """
    path = epath.Path(path)
    if not path.exists():
        raise WeightsError(f"{path}: {why_absent(path)}; expected the directory of a published checkpoint, or a weight "
                           "file in one.")
    named = path.is_file()
    directory = path.parent if named else path
    if named and is_converted(directory):
        raise WeightsError(f"{path}: is one file of converted weights; give their directory, {directory}.")
    index, damage = _read_index(directory / INDEX)
    doubts, stale = [damage] if damage else [], []
    if named:
        entries = _named(path, architecture)
        why = "its path was given"
    else:
        found = _sets(directory, architecture, None)
        others = {file: WeightFile(file) for file in dict.fromkeys(index.values())
                  if not _is_known(file, architecture) and (directory / file).exists()}
        if others and not any(file in index.values() for entries in found for file in entries):
            found.append(others)
        why = f"named by {INDEX}" if found == [others] else "the only weights of the model there"
        if not found:
            raise WeightsError(_nothing(directory, architecture, damage))
        entries = _only(directory, found, index) | others
        for file in dict.fromkeys(index.values()):
            if not (directory / file).exists():
                # The model's are other weights than these; an absent part is told of when its tensors are looked for.
                (stale if _is_known(file, architecture) else doubts).append(_absent(directory, file, index))
    for part in sorted(parts):
        for prefix in dict.fromkeys(entry.prefix for entry in architecture.files if entry.part == part):
            if found := _sets(directory, architecture, part, prefix):
                entries |= _only(directory, found, index)
    return WeightFiles(directory, entries, why, index, tuple(doubts), tuple(stale), architecture.folders)


def _named(path: epath.Path, architecture: Architecture) -> dict[str, WeightFile]:
    if not path.name.endswith(_ENDING):
        raise WeightsError(f"{path}: only safetensors files are read, and pickled ones never; expected a {_ENDING} "
                           "file or a directory.")
    entry = next((file for file in architecture.files if path.match(file.glob)), WeightFile(path.name))
    if entry.part is not None:
        raise WeightsError(f"{path}: holds the {architecture.parts[entry.part].title} alone; give the directory, "
                           "or the file of the model itself.")
    return _only(path.parent, [dict.fromkeys(_whole_set(path.name), entry)], {})


def _sets(
    directory: epath.Path, architecture: Architecture, part: str | None, prefix: str = ""
) -> list[dict[str, WeightFile]]:
    """The sets of files that a part, or the model itself, could be read from; names of the same files count once."""
    sets: list[dict[str, WeightFile]] = []
    for entry in architecture.files:
        if (entry.part, entry.prefix) != (part, prefix):
            continue
        for file in sorted(str(file.relative_to(directory)) for file in directory.glob(entry.glob)):
            whole = dict.fromkeys(_whole_set(file), entry)
            if not is_hidden(epath.Path(file).name) and not any(_are_one(directory, whole, other) for other in sets):
                sets.append(whole)
    return sets


def _whole_set(file: str) -> list[str]:
    """A file, or all shards of the set that it belongs to."""
    shard = _SHARD.fullmatch(file)
    if shard is None:
        return [file]
    start, number, of, count, ending = shard.groups()
    return [f"{start}{k:0{len(number)}d}{of}{count}{ending}" for k in range(1, int(count) + 1)]


def _are_one(directory: epath.Path, first: Mapping[str, WeightFile], second: Mapping[str, WeightFile]) -> bool:
    """Whether two sets are the same files, as `export` gives one two names for the sake of different scripts."""
    if list(first) == list(second):
        return True
    return (is_local(directory) and len(first) == len(second)
            and all((directory / file).exists() and (directory / other).exists()
                    and os.path.samefile(directory / file, directory / other)
                    for file, other in zip(first, second, strict=True)))


def _is_known(name: str, architecture: Architecture) -> bool:
    return any(epath.Path(name).match(file.glob) for file in architecture.files)


def _only(
    directory: epath.Path, found: list[dict[str, WeightFile]], index: Mapping[str, str]
) -> dict[str, WeightFile]:
    """The only set of files.

    Raises:
      WeightsError: it lacks some, or there are several; only what can be read is offered.
    """
    if len(found) == 1:
        if lack := _lack(directory, found[0]):
            raise WeightsError(f"{directory}: {lack}; copy it from where the other files of these weights come from.")
        return found[0]
    faults = {next(iter(entries)): _lack(directory, entries) or _damage(directory, entries) for entries in found}
    whole = [file for file, fault in faults.items() if fault is None]
    broken = "; ".join(fault for fault in faults.values() if fault is not None)
    if not whole:
        raise WeightsError(f"{directory}: {', '.join(faults)}: none of them can be read: {broken}.")
    paths = " or ".join(str(directory / file) for file in whole)
    if len(whole) == 1:
        raise WeightsError(f"{directory}: {' and '.join(faults)} are there, but {broken}. If {whole[0]} is meant, give "
                           f"its path instead of the directory: {paths}.")
    said = [file for file in faults if file in index.values()]
    word = f" ({INDEX} names {', '.join(said)}, but such a file is often copied along)" if said else ""
    also = f" Damaged: {broken}." if broken else ""
    raise WeightsError(f"{directory}: {' and '.join(whole)} hold weights of the same model, and either may be meant"
                       f"{word}. Give the path of the file instead of the directory: {paths}.{also}")


def _lack(directory: epath.Path, entries: Mapping[str, WeightFile]) -> str | None:
    absent = [file for file in entries if not (directory / file).exists()]
    return f"expected {', '.join(absent)}, found {why_absent(directory / absent[0])}" if absent else None


def _damage(directory: epath.Path, entries: Mapping[str, WeightFile]) -> str | None:
    for file in entries:
        try:
            SafetensorsFile(directory / file).close()
        except WeightsError as error:
            return str(error).splitlines()[0].rstrip(".")
    return None


def _nothing(directory: epath.Path, architecture: Architecture, damage: str) -> str:
    """What to say of a directory without weights of the model."""
    wanted = " or ".join(file.glob for file in architecture.files if file.part is None)
    names = sorted(entry.name for entry in directory.iterdir())
    said = (f"{directory}: expected {wanted}, found {', '.join(names[:20]) or 'an empty directory'}."
            f"{f' {damage}.' if damage else ''}")
    if what := hint(directory):
        return f"{said} {what}"
    others = [name for name in names
              if name.lower().endswith(_ENDING) and not is_hidden(name) and not _is_known(name, architecture)]
    if others:
        return (f"{said} If the model is in a file of another name, give its path: "
                f"{' or '.join(str(directory / name) for name in others[:5])}.")
    return (f"{said} Copy the weights that you mean into it; an index does not tell which these are, since it is often "
            "copied along. Only safetensors files are read; .bin and .pt files are never opened.")


def _absent(directory: epath.Path, file: str, index: Mapping[str, str]) -> str:
    count = sum(owner == file for owner in index.values())
    return (f"{directory / INDEX} names {file} for {count} tensor{'s' * (count != 1)}, and that is "
            f"{why_absent(directory / file)}")


def _read_index(path: epath.Path) -> tuple[dict[str, str], str]:
    """Tensor -> file, and what is wrong with the index, if something is: then it says nothing.

    Raises:
      WeightsError: it names something outside of its directory, which no damage does.
    """
    if not path.exists():
        return {}, ""
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{path}: not valid JSON ({error}); copy it again, or remove it"
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        return {}, (f"{path}: field 'weight_map': expected an object from tensor names to file names; copy it again, "
                    "or remove it")
    for name, file in names.items():
        if epath.Path(file).name != file or not file.endswith(_ENDING):
            raise WeightsError(f"{path}: field 'weight_map': tensor '{name}': expected the name of a safetensors file "
                               f"in the same directory, found {file!r}; nothing else is read.")
    return names, ""
