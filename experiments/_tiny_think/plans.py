"""Plans: tidy pictures in words, as a model writes them before it draws (think mode).

    plan    = object {", " object}                          objects as they are drawn, from the back to the front
    object  = ["smaller"] looks place                       one cell of the 3 x 3 board
            | looks "behind"                                in the middle, larger, partly covered by
            | looks "in front" place                        the object after it, shifted from the middle
    looks   = texture color shape
    place   = ["above" | "below"] ["left" | "right"]        neither: the middle

"solid purple circle behind, solid red triangle in front right". All words are the tokenizer's.
"""

from collections.abc import Sequence

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.worlds.shapes.layout import BACK, CELLS, FRONT, FRONT_SHIFT, LARGE, SMALL, STEP, TIDY_BACK_CENTER
from srum_jax.worlds.shapes.oracle import judge_scene
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.scene import COLORS, SHAPES, TEXTURES, Prompt, Scene, Shape

THINK_TEMPLATES = epath.Path(__file__).parent / "think_templates"  # asks for a plan in words of this world
MAX_PLAN_TOKENS = 41  # seven objects (one more than a caption asks for) of five words, and six commas
PLAN_TOKEN_LIMIT = MAX_PLAN_TOKENS + 10  # for a model that writes one; also what is not quite a plan ends
_ROWS, _COLUMNS = ("above", "", "below"), ("left", "", "right")
_BEHIND, _IN_FRONT, _SMALLER = ("behind",), ("in", "front"), "smaller"
_LOOKS = (("texture", TEXTURES), ("color", COLORS), ("shape", SHAPES))


class PlanError(BadInput):
    """A text that is no plan, or a scene that has none."""


def plan_text(scene: Scene) -> str:
    """The plan of a tidy scene (`layout.lay_out_tidily`).

    Raises:
      PlanError: the scene has sizes or places that plans have no words for.
    """
    overlapping = len(scene.shapes) == 2 and _steps(scene.shapes[0].side) == BACK
    parts = []
    for number, shape in enumerate(scene.shapes):
        looks = [shape.texture, shape.color, shape.shape]
        if not overlapping:
            smaller = [_SMALLER] if _side_in(shape, (SMALL, LARGE)) == SMALL else []
            parts.append([*smaller, *looks, *_place(shape, _CELL_CENTERS)])
        elif number == 0:
            parts.append([*looks, *_BEHIND])
            _place(shape, (TIDY_BACK_CENTER,))
        else:
            _side_in(shape, (FRONT,))
            parts.append([*looks, *_IN_FRONT, *_place(shape, _FRONT_CENTERS)])
    return ", ".join(" ".join(part) for part in parts)


def parse_plan(text: str) -> Scene:
    """The scene of a plan: the inverse of `plan_text`.

    Args:
      text: as decoded; spaces do not matter.

    Raises:
      PlanError: with the text, and what was expected where.
    """
    parts = [part.split() for part in text.split(",")]
    if len(parts) == 2 and parts[0][3:] == list(_BEHIND):
        back, front = (_looks(part, text) for part in parts)
        if tuple(parts[1][3:5]) != _IN_FRONT:
            raise PlanError(f"plan {text!r}: expected 'in front' and a place after {' '.join(parts[1][:3])!r}.")
        row, column = _read_place(parts[1][5:], text)
        if (row, column) == (1, 1):
            raise PlanError(f"plan {text!r}: expected the object in front beside the middle, found it there.")
        return Scene((
            Shape(*back, TIDY_BACK_CENTER * STEP, TIDY_BACK_CENTER * STEP, BACK * STEP),
            Shape(*front, _FRONT_CENTERS[column] * STEP, _FRONT_CENTERS[row] * STEP, FRONT * STEP),
        ))
    shapes, taken = [], set()
    for part in parts:
        smaller = part[:1] == [_SMALLER]
        looks, (row, column) = _looks(part[smaller:], text), _read_place(part[smaller + 3 :], text)
        if (row, column) in taken:
            raise PlanError(f"plan {text!r}: expected every object in a place of its own, found two in one.")
        taken.add((row, column))
        shapes.append(Shape(*looks, (column + 0.5) / CELLS, (row + 0.5) / CELLS, (SMALL if smaller else LARGE) * STEP))
    return Scene(tuple(shapes))


def plan_fits(prompt: Prompt, text: str) -> bool:
    """Whether a picture that follows the plan shows all that the prompt asks for, and nothing else: the oracle's word.

    Raises:
      PlanError: the text is no plan.
    """
    return judge_scene(prompt, parse_plan(text), PICTURE_SIZE).correct


_CELL_CENTERS = tuple((number + 0.5) / CELLS / STEP for number in range(CELLS))  # in steps, as the following
_FRONT_CENTERS = tuple(TIDY_BACK_CENTER + shift for shift in (-FRONT_SHIFT, 0, FRONT_SHIFT))


def _steps(length: float) -> int:
    return round(length / STEP)


def _side_in(shape: Shape, sides: Sequence[int]) -> int:
    side = _steps(shape.side)
    if side not in sides:
        raise PlanError(f"scene: side of {shape.color} {shape.shape}: expected one of {list(sides)} steps, found "
                        f"{side}; only tidy scenes have plans.")
    return side


def _place(shape: Shape, centers: Sequence[float]) -> list[str]:
    """The words for a place; `centers` are those of three rows or columns, or the only one."""
    words = []
    for value, names in ((shape.center_y, _ROWS), (shape.center_x, _COLUMNS)):
        names = names if len(centers) == CELLS else names[1:2]
        nearest = min(range(len(centers)), key=lambda number, value=value: abs(centers[number] * STEP - value))
        if abs(centers[nearest] * STEP - value) > STEP / 2:
            expected = ", ".join(f"{center:g}" for center in centers)
            raise PlanError(f"scene: place of {shape.color} {shape.shape}: expected one of {expected} steps, found "
                            f"{value / STEP:g}; only tidy scenes have plans.")
        words.append(names[nearest])
    return [word for word in words if word]


def _looks(words: Sequence[str], text: str) -> tuple[str, str, str]:
    """Shape, color and texture: the first words of an object."""
    found = dict(zip((name for name, _ in _LOOKS), words, strict=False))
    for name, known in _LOOKS:
        if found.get(name) not in known:
            raise PlanError(f"plan {text!r}: expected a {name} ({', '.join(known)}), found "
                            f"{found.get(name, 'the end')!r} in {' '.join(words)!r}.")
    return found["shape"], found["color"], found["texture"]


def _read_place(words: Sequence[str], text: str) -> tuple[int, int]:
    """Row and column, 1 for the middle."""
    rest = list(words)
    row = _ROWS.index(rest.pop(0)) if rest and rest[0] in _ROWS else 1
    column = _COLUMNS.index(rest.pop(0)) if rest and rest[0] in _COLUMNS else 1
    if rest:
        raise PlanError(f"plan {text!r}: expected a place such as 'above left', found {' '.join(words)!r}.")
    return row, column
