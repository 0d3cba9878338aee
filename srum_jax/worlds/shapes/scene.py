"""What is asked for (a prompt) and what is drawn (a scene), in the world of coloured shapes.

Lengths and places are fractions of the image's side, x to the right and y downwards from the top left corner.
"""

import dataclasses

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COMPACT_SHAPES = ("circle", "square", "triangle", "diamond")  # stay in one piece when a part is covered
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
TEXTURES = ("solid", "striped", "dotted", "checkered")
ATTRIBUTES = ("shape", "color", "texture")

SPATIAL_RELATIONS = ("left of", "right of", "above", "below")
DEPTH_RELATIONS = ("in front of", "behind")
SIZE_RELATIONS = ("larger than", "smaller than", "the same size as")
RELATIONS = SPATIAL_RELATIONS + DEPTH_RELATIONS + SIZE_RELATIONS

# The names of T2I-CompBench. What is not spatial there (actions of people) is here a comparison of sizes.
CATEGORIES = ("color", "shape", "texture", "spatial", "3d-spatial", "non-spatial", "numeracy", "complex")


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A noun phrase such as "two striped red circles". None: not stated, so anything is right."""

    shape: str  # of SHAPES
    color: str | None = None  # of COLORS
    texture: str | None = None  # of TEXTURES
    count: int = 1

    def stated(self) -> tuple[tuple[str, str], ...]:
        """Attributes that the phrase states, as (name, value)."""
        values = ((name, getattr(self, name)) for name in ATTRIBUTES)
        return tuple((name, value) for name, value in values if value is not None)


@dataclasses.dataclass(frozen=True)
class Relation:
    """How the first object of one phrase stands to that of another."""

    kind: str  # of RELATIONS
    subject: int = 0  # index of a phrase
    object: int = 1

    @property
    def family(self) -> tuple[str, ...]:
        """The relations that could be mistaken for this one."""
        return next(
            family for family in (SPATIAL_RELATIONS, DEPTH_RELATIONS, SIZE_RELATIONS) if self.kind in family
        )


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What an image must show: the objects of all phrases, nothing else, and the relation."""

    phrases: tuple[Phrase, ...]
    relation: Relation | None = None
    category: str = ""  # of CATEGORIES, or empty

    @property
    def num_objects(self) -> int:
        """Objects that an image of this prompt has."""
        return sum(phrase.count for phrase in self.phrases)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One object of a scene. Its bounding box is a square."""

    shape: str
    color: str
    texture: str
    center_x: float
    center_y: float
    side: float  # of the bounding box


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything that is drawn, from the back to the front."""

    shapes: tuple[Shape, ...]
