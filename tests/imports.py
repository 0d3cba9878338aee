"""Which file imports which, read from the source."""

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROOMS = ("srum_jax", "tools", "experiments", "benchmarks")


@dataclasses.dataclass(frozen=True)
class Source:
    """One file: its dotted name and what it imports of ours."""

    name: str
    imports: frozenset[str]  # inside functions and for type checkers too
    identifiers: frozenset[str]  # names of variables, attributes, arguments, functions and classes


@functools.cache
def sources() -> Mapping[str, Source]:
    """Every file of ours but the tests, by dotted name; a package is its `__init__.py`."""
    paths = {_dotted(path): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}
    return {name: _read(name, path, paths) for name, path in paths.items()}


def circles(edges: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Groups of files that import each other, each sorted (Tarjan's strongly connected components of two and more)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            if len(stack) - place > 1:
                found.append(sorted(stack[place:]))
            del stack[place:]

    for name in edges:
        if name not in index:
            visit(name)
    return found


def _dotted(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(name: str, path: pathlib.Path, paths: Mapping[str, pathlib.Path]) -> Source:
    tree = ast.parse(path.read_text(), str(path))
    imports = {found for node in ast.walk(tree) for found in _imported(node, paths)}
    identifiers = {value for node in ast.walk(tree) for field, value in ast.iter_fields(node)
                   if field in ("id", "attr", "arg", "name", "asname") and isinstance(value, str)
                   and not isinstance(node, ast.alias)}
    return Source(name, frozenset(imports - {name}), frozenset(identifiers))


def _imported(node: ast.AST, paths: Mapping[str, pathlib.Path]) -> Iterator[str]:
    """Files of ours that an import statement names. `from package import name` may name a file of the package."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in paths)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in inner if name in paths)
        if node.module in paths and not all(name in paths for name in inner):
            yield node.module
