"""Dependencies run one way: a file imports from its own floor or from one below, and general files name no family."""

import pytest

from tests.imports import ROOT, circles, sources

FLOORS = (
    ("errors", "overrides", "storage"),
    ("models", "objectives", "rewards"),  # arrays and rules
    ("weights", "data", "inference", "mesh", "mesh_config", "distributed", "devices",
     "attention_route", "process_watch"),  # general
    ("families",),  # one folder each, and the record of what a family provides
    ("training", "observability", "stages", "judges", "regions", "generation", "rollouts", "evaluation",
     "families.registry"),
    ("experiment", "pipeline", "model_arguments", "judge_arguments", "generation.arguments", "command_line", "aot",
     "train", "generate", "chat", "compile", "evaluate", "lmms_eval", "demo"),
)
# All that is not of the package, the worlds, and what starts the tools.
TOP = len(FLOORS)
# What may name a family, beside the family's own two folders.
MAY_NAME_A_FAMILY = ("srum_jax.families.registry", "srum_jax.worlds", "tools", "experiments", "benchmarks")

FAMILIES = sorted({path.parent.name for room in ("models", "families")
                   for path in (ROOT / "srum_jax" / room).glob("*/__init__.py")} - {"layers"})


def within(name, room):
    return name == room or name.startswith(f"{room}.")


def floor(name):
    rooms = {room: number for number, rooms in enumerate(FLOORS) for room in rooms
             if within(name, f"srum_jax.{room}")}
    return rooms[max(rooms, key=len)] if rooms else 0 if name == "srum_jax" else TOP


def upwards():
    return {(source.name, imported) for source in sources().values() for imported in source.imports
            if floor(imported) > floor(source.name)}


def between_families():
    """Imports of one family's folders by another's, and of anything but models by a model."""
    found = set()
    for source in sources().values():
        for family in FAMILIES:
            own = [f"srum_jax.{room}.{family}" for room in ("models", "families")]
            if any(within(source.name, room) for room in own):
                others = [f"srum_jax.{room}.{other}" for room in ("models", "families")
                          for other in FAMILIES if other != family]
                found |= {(source.name, imported) for imported in source.imports
                          if any(within(imported, room) for room in others)}
        if within(source.name, "srum_jax.models"):
            found |= {(source.name, imported) for imported in source.imports
                      if not within(imported, "srum_jax.models") and floor(imported) > 0}
    return found


def naming_a_family():
    found = set()
    for source in sources().values():
        for family in FAMILIES:
            allowed = [*MAY_NAME_A_FAMILY, f"srum_jax.models.{family}", f"srum_jax.families.{family}"]
            if not any(within(source.name, room) for room in allowed):
                words = {*source.imports, *source.identifiers}
                if any(family in word.lower() for word in words):
                    found.add((source.name, family))
    return found


def circular():
    return {tuple(circle) for circle in circles({name: source.imports & sources().keys()
                                                 for name, source in sources().items()})}


def test_every_file_imports_from_its_floor_or_below():
    assert upwards() == set()


def test_a_family_imports_no_other_and_a_model_only_models():
    assert between_families() == set()


def test_general_files_name_no_family():
    assert naming_a_family() == set()


def test_no_files_import_each_other_in_a_circle():
    assert circular() == set()


def test_every_room_of_the_package_has_a_floor():
    package = ROOT / "srum_jax"
    rooms = {path.stem for path in [*package.glob("*.py"), *(path.parent for path in package.glob("*/__init__.py"))]}
    placed = {room.split(".")[0] for rooms in FLOORS for room in rooms}
    assert rooms - placed == {"__init__", "worlds", "console_scripts"}


@pytest.mark.parametrize(("edges", "expected"), [
    ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
    ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
    ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["c", "d"], ["a", "b"]]),
])
def test_circles_are_found(edges, expected):
    assert circles({name: frozenset(others) for name, others in edges.items()}) == expected
