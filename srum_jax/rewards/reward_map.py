"""Reward maps: what multiplies the loss of each latent token, from boxes and scores (SRUM, section 3.2).

    paper      R = score of the region that covers a pixel, 0 where none does;   alpha = (g + 1) / 2
    official   R = (score + 1) / 2, the largest wins, with a background of 0.5;  alpha = (g + 1) / 2
    weight   = alpha * resize(R)

`score` and the global score g lie in [-1, 1]. R lies in [-1, 1] (paper) or [0, 1] (official), alpha in [0, 1].
For g = -0.7 and a region with score -0.8: paper 0.15 * -0.8 = -0.12; official 0.15 * 0.5 = 0.075, because the
background of 0.5 takes part in the maximum and hides every negative score.

Maps are painted on the pixels of the stored image and resized once to the token grid, so boxes need no scaling.

H, W pixels of the canvas · h, w token grid
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from srum_jax.errors import BadInput
from srum_jax.rewards.boxes import Box

VARIANTS = ("paper", "official")
OVERLAPS = ("auto", "smallest", "max", "last", "min", "mean")
EDGES = ("auto", "half_open", "legacy")
RESIZES = ("bilinear", "area")
BINARIZATIONS = ("none", "region")
BOX_SPACES = ("stored", "unscaled")
INCLUSIVE_PROVIDERS = ("sam", "both")  # whose boxes came from inclusive corners; see `edge`


class RewardMapError(BadInput):
    """A reward map cannot be computed from these settings and scores."""


@dataclasses.dataclass(frozen=True)
class RewardMapConfig:
    """How scores become weights. `paper` and `official` are the two published readings."""

    variant: str = "paper"  # "paper": signed; "official": what the authors' loader computes
    overlap: str = "auto"  # which region counts where several cover a pixel; auto: smallest (paper), max (official)
    edge: str = "auto"  # "legacy": without the last row and column of a box; auto: half_open (paper), legacy (official)
    resize: str = "bilinear"  # to the token grid: "bilinear" without antialias, or "area" (mean of the cell)
    use_global: bool = True  # False: every record has `fixed_alpha`
    # 1 doubles the mean weight besides; the mean over the data set, (1 + mean global score) / 2, leaves it as it was.
    fixed_alpha: float = 1.0
    use_local: bool = True  # False: R = 1, the whole image is weighted by alpha
    binarize: str = "none"  # "region": scores above 0 become 1, others 0 (official: 1 and -1)
    box_space: str = "stored"  # "unscaled": stored coordinates on the transformed image, as the authors' loader does

    def __post_init__(self):
        for field, choices in (("variant", VARIANTS), ("overlap", OVERLAPS), ("edge", EDGES), ("resize", RESIZES),
                               ("binarize", BINARIZATIONS), ("box_space", BOX_SPACES)):
            if getattr(self, field) not in choices:
                raise RewardMapError(f"reward_map.{field}: expected one of {', '.join(choices)}; "
                                     f"found {getattr(self, field)!r}.")
        if not 0 <= self.fixed_alpha <= 1:
            raise RewardMapError(f"reward_map.fixed_alpha: expected a number from 0 to 1, found {self.fixed_alpha!r}.")
        if self.variant == "official" and self.overlap not in ("auto", "max"):
            raise RewardMapError("reward_map.overlap: expected auto or max with variant 'official' (its definition), "
                                 f"found {self.overlap!r}; other rules belong to variant 'paper'.")

    @classmethod
    def paper(cls, **overrides) -> "RewardMapConfig":
        """The text of the paper."""
        return cls(variant="paper", **overrides)

    @classmethod
    def official(cls, **overrides) -> "RewardMapConfig":
        """The authors' loader with boxes in the right place; `box_space="unscaled"` is the loader to the letter."""
        return cls(variant="official", **overrides)

    @property
    def overlap_rule(self) -> str:
        """The rule behind "auto"."""
        if self.overlap != "auto":
            return self.overlap
        return "max" if self.variant == "official" else "smallest"

    @property
    def edge_rule(self) -> str:
        """The rule behind "auto"."""
        if self.edge != "auto":
            return self.edge
        return "legacy" if self.variant == "official" else "half_open"

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the range of R."""
        return (0.0, 1.0) if self.variant == "official" else (-1.0, 1.0)

    @property
    def background(self) -> float:
        """Value where no region lies: neutral in either variant."""
        return 0.5 if self.variant == "official" else 0.0


@dataclasses.dataclass(frozen=True)
class RewardMap:
    """The two factors of the weight of one image, kept apart for logging and for ablations."""

    R: np.ndarray  # float32 [h, w]
    alpha: float

    @property
    def weight(self) -> np.ndarray:
        """Float32 [h, w]: `alpha * R`."""
        return np.float32(self.alpha) * self.R


def reward_map(
    regions: Sequence[tuple[Box, float]],
    global_score: float | None,
    *,
    width: int,
    height: int,
    grid: tuple[int, int],
    config: RewardMapConfig,
    provider: str = "sam",
) -> RewardMap:
    """The reward map of one image on its token grid (SRUM, section 3.2; unspecified points as documented).

    Args:
      regions: half-open boxes and scores. Boxes are clipped to the canvas, empty ones skipped. Nothing else is clamped.
      global_score: g, or None when it is absent; the official variant then takes 0.
      width: pixels of the canvas that boxes are painted on.
      height: likewise.
      grid: (h, w) of the latent tokens.
      config: see RewardMapConfig.
      provider: where the boxes come from; `edge="legacy"` shortens only boxes made from inclusive corners.

    Raises:
      RewardMapError: the global score is needed and absent, or a score is not finite.
    """
    alpha = _alpha(global_score, config)
    if not config.use_local:
        return RewardMap(R=np.ones(grid, np.float32), alpha=alpha)
    if config.edge_rule == "legacy" and provider in INCLUSIVE_PROVIDERS:
        regions = [(Box(box.x0, box.y0, box.x1 - 1, box.y1 - 1), score) for box, score in regions]
    if config.resize == "area":
        canvas = paint(regions, np.arange(height), np.arange(width), width, height, config)
        rows, columns = _area_matrix(height, grid[0]), _area_matrix(width, grid[1])
        return RewardMap(R=(rows @ canvas @ columns.T).astype(np.float32), alpha=alpha)
    row_pairs, row_fraction = bilinear_taps(height, grid[0])
    column_pairs, column_fraction = bilinear_taps(width, grid[1])
    rows, row_places = np.unique(row_pairs, return_inverse=True)
    columns, column_places = np.unique(column_pairs, return_inverse=True)
    canvas = paint(regions, rows, columns, width, height, config)
    resized = _blend(canvas, row_places.reshape(2, -1), row_fraction, column_places.reshape(2, -1), column_fraction)
    return RewardMap(R=resized.astype(np.float32), alpha=alpha)


def pixel_map(
    regions: Sequence[tuple[Box, float]], *, width: int, height: int, config: RewardMapConfig
) -> np.ndarray:
    """R of every pixel, float32 [H, W]; boxes are taken as they are, whatever `config.edge` says."""
    canvas = paint(regions, np.arange(height), np.arange(width), width, height, config)
    return canvas.astype(np.float32)


def bilinear_taps(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` pixels each of `count` cells reads, half-pixel centres, no antialias.

    Returns:
      int [2, count], first and second neighbour; float64 [count], the share of the second.
    """
    source = np.maximum((np.arange(count) + 0.5) * (size / count) - 0.5, 0.0)
    first = np.minimum(np.floor(source).astype(np.int64), size - 1)
    second = np.minimum(first + 1, size - 1)
    return np.stack([first, second]), source - first


def resize_bilinear(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """A map of pixels [H, W] on a token grid (h, w): half-pixel centres, no antialias; float32 [h, w]."""
    rows, row_fraction = bilinear_taps(values.shape[0], grid[0])
    columns, column_fraction = bilinear_taps(values.shape[1], grid[1])
    return _blend(values.astype(np.float64), rows, row_fraction, columns, column_fraction).astype(np.float32)


def paint(
    regions: Sequence[tuple[Box, float]],
    rows: np.ndarray,
    columns: np.ndarray,
    width: int,
    height: int,
    config: RewardMapConfig,
) -> np.ndarray:
    """R before resizing at some pixels only: float64 [len(rows), len(columns)].

    Args:
      regions: half-open boxes and scores.
      rows: increasing pixel rows that are wanted.
      columns: likewise.
      width: pixels of the canvas; boxes are clipped to it.
      height: likewise.
      config: variant, overlap and binarize are used.

    Raises:
      RewardMapError: a score is not finite.
    """
    painted = []
    for box, score in regions:
        if not np.isfinite(score):
            raise RewardMapError(f"score of box {tuple(box)}: expected a finite number, found {score}")
        clipped = box.clip(width, height)
        if box.empty or clipped.empty:
            continue
        places = (slice(*np.searchsorted(rows, (clipped.y0, clipped.y1))),
                  slice(*np.searchsorted(columns, (clipped.x0, clipped.x1))))
        painted.append((clipped.area, places, _value(float(score), config)))

    shape = (len(rows), len(columns))
    if config.variant == "official":
        canvas = np.full(shape, config.background)
        for _, places, value in painted:
            np.maximum(canvas[places], value, out=canvas[places])
        return canvas

    rule = config.overlap_rule
    if rule == "smallest":
        # From the largest to the smallest; of equal areas the lower number is painted later and wins.
        painted = sorted(reversed(painted), key=lambda entry: -entry[0])
    if rule in ("smallest", "last"):
        canvas = np.full(shape, config.background)
        for _, places, value in painted:
            canvas[places] = value
        return canvas
    if rule == "mean":
        total, count = np.zeros(shape), np.zeros(shape)
        for _, places, value in painted:
            total[places] += value
            count[places] += 1
        return np.where(count > 0, total / np.maximum(count, 1), config.background)
    canvas = np.full(shape, np.nan)  # NaN: not covered yet; the background takes no part
    choose = np.fmax if rule == "max" else np.fmin
    for _, places, value in painted:
        choose(canvas[places], value, out=canvas[places])
    return np.where(np.isnan(canvas), config.background, canvas)


def _blend(
    canvas: np.ndarray, rows: np.ndarray, row_fraction: np.ndarray, columns: np.ndarray, column_fraction: np.ndarray
) -> np.ndarray:
    """Bilinear mixture of rows [2, h] and columns [2, w] of a canvas."""
    # Spelt as `first + fraction * (second - first)`, so that a constant neighbourhood stays exactly constant.
    across = canvas[:, columns[0]] + column_fraction * (canvas[:, columns[1]] - canvas[:, columns[0]])
    return across[rows[0]] + row_fraction[:, None] * (across[rows[1]] - across[rows[0]])


def _value(score: float, config: RewardMapConfig) -> float:
    if config.binarize == "region":
        low = -1.0 if config.variant == "official" else 0.0
        score = 1.0 if score > 0 else low
    return (score + 1.0) / 2.0 if config.variant == "official" else score


def _alpha(global_score: float | None, config: RewardMapConfig) -> float:
    if not config.use_global:
        return config.fixed_alpha
    if global_score is None:
        if config.variant == "official":
            return 0.5
        raise RewardMapError("global score is absent; the paper's variant needs one "
                             "(drop the record, or set reward_map.use_global=False)")
    if not np.isfinite(global_score):
        raise RewardMapError(f"global score: expected a finite number, found {global_score}")
    return (global_score + 1.0) / 2.0


def _area_matrix(size: int, count: int) -> np.ndarray:
    """Float64 [count, size]: share of each pixel in each of `count` equal cells; rows sum to 1."""
    edges = np.arange(count + 1) * (size / count)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(covered, 0.0, 1.0) * (count / size)
