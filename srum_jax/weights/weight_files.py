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
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.run_folder import hint

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
      folders: directories inside it whose small files belong to the checkpoint, too.
    """

    directory: epath.Path
    entries: Mapping[str, WeightFile]
    why: str
    index: Mapping[str, str]
    doubts: tuple[str, ...]
    folders: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.directory}: reading {', '.join(self.entries)} ({self.why})"


def choose_files(path: epath.PathLike, architecture: Architecture, parts: frozenset[str]) -> WeightFiles:
    """Finds the files to read; none is opened but the index.

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
        raise WeightsError(f"{path}: no such directory; expected a published checkpoint.")
    named = path.is_file()
    directory = path.parent if named else path
    index = _read_index(directory / INDEX)
    entries: dict[str, WeightFile] = {}
    doubts = []
    if named:
        entry = _entry_of(path, architecture)
        if entry.part is not None:
            raise WeightsError(f"{path}: holds the {architecture.parts[entry.part].title} alone; give the directory, "
                               "or the file of the model itself.")
        entries |= dict.fromkeys(_whole_set(directory, [path.name]), entry)
        why = "its path was given"
    else:
        for found in _groups(directory, architecture, None):
            if len(found) > 1:
                raise WeightsError(_ambiguous(directory, found, index))
            entries |= dict.fromkeys(_whole_set(directory, found[0][1]), found[0][0])
        why = "the only weights of the model there" if entries else f"named by {INDEX}"
        others = [file for file in dict.fromkeys(index.values()) if not _is_known(file, architecture)]
        entries |= {file: WeightFile(file) for file in others if (directory / file).exists()}
        doubts = [_absent(directory, file, index) for file in dict.fromkeys(index.values())
                  if not (directory / file).exists()]
    if not entries:
        names = ", ".join(sorted(entry.name for entry in directory.iterdir())[:20])
        wanted = " or ".join(file.glob for file in architecture.files if file.part is None)
        raise WeightsError(f"{directory}: expected {wanted}, found {names or 'an empty directory'}."
                           f"{''.join(f' {doubt}.' for doubt in doubts)} {hint(directory)}")
    for part in sorted(parts):
        for found in _groups(directory, architecture, part):
            if len(found) > 1:
                raise WeightsError(_ambiguous(directory, found, index))
            entries |= dict.fromkeys(_whole_set(directory, found[0][1]), found[0][0])
    return WeightFiles(directory, entries, why, index, tuple(doubts), architecture.folders)


def _groups(
    directory: epath.Path, architecture: Architecture, part: str | None
) -> list[list[tuple[WeightFile, list[str]]]]:
    """The entries of a part that there are files of, with these files; alternatives together."""
    groups: dict[str, list[tuple[WeightFile, list[str]]]] = {}
    for entry in (entry for entry in architecture.files if entry.part == part):
        files = sorted(str(file.relative_to(directory)) for file in directory.glob(entry.glob)
                       if not is_hidden(file.name))
        found = groups.setdefault(entry.prefix, [])
        if files and not any(_are_one(directory / files[0], directory / other[0]) for _, other in found):
            found.append((entry, files))
    return [found for found in groups.values() if found]


def _are_one(first: epath.Path, second: epath.Path) -> bool:
    """Whether two names are of one file, as `export` gives a file two for the sake of different scripts."""
    return is_local(first) and os.path.realpath(first) == os.path.realpath(second)


def _entry_of(path: epath.Path, architecture: Architecture) -> WeightFile:
    if not path.name.endswith(_ENDING):
        raise WeightsError(f"{path}: only safetensors files are read, and pickled ones never; expected a {_ENDING} "
                           "file or a directory.")
    return next((file for file in architecture.files if path.match(file.glob)), WeightFile(path.name))


def _is_known(name: str, architecture: Architecture) -> bool:
    return any(epath.Path(name).match(file.glob) for file in architecture.files)


def _whole_set(directory: epath.Path, files: list[str]) -> list[str]:
    """The same files, or all shards of the set that they belong to."""
    sets: dict[str, None] = {}
    for file in files:
        shard = _SHARD.fullmatch(file)
        if shard is None:
            sets[file] = None
            continue
        start, number, of, count, ending = shard.groups()
        for k in range(1, int(count) + 1):
            sets[f"{start}{k:0{len(number)}d}{of}{count}{ending}"] = None
    if absent := [file for file in sets if not (directory / file).exists()]:
        raise WeightsError(f"{directory}: expected {', '.join(absent)}, found {why_absent(directory / absent[0])}; "
                           "copy what is absent from where the other files come from.")
    return list(sets)


def _ambiguous(
    directory: epath.Path, found: list[tuple[WeightFile, list[str]]], index: Mapping[str, str]
) -> str:
    firsts = [files[0] for _, files in found]
    said = [file for file in firsts if file in index.values()]
    word = f" ({INDEX} names {', '.join(said)}, but such a file is often copied along)" if said else ""
    paths = " or ".join(str(directory / file) for file in firsts)
    return (f"{directory}: {' and '.join(firsts)} both hold the same tensors, and either may be meant{word}. Give "
            f"the path of the file instead of the directory: {paths}.")


def _absent(directory: epath.Path, file: str, index: Mapping[str, str]) -> str:
    count = sum(owner == file for owner in index.values())
    return (f"{directory / INDEX} names {file} for {count} tensor{'s' * (count != 1)}, and that is "
            f"{why_absent(directory / file)}")


def _read_index(path: epath.Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error}); copy it again, or remove it.") from error
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise WeightsError(f"{path}: field 'weight_map': expected an object from tensor names to file names; copy it "
                           "again, or remove it.")
    for name, file in names.items():
        if epath.Path(file).name != file or not file.endswith(_ENDING):
            raise WeightsError(f"{path}: field 'weight_map': tensor '{name}': expected the name of a safetensors file "
                               f"in the same directory, found {file!r}; nothing else is read.")
    return names
