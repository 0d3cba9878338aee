"""Rules of the key table for layers as PyTorch names them.

Published linear weights are (out, in), ours (in, out); published convolutions are (out, in, height, width), ours
(height, width, in, out).
"""

from collections.abc import Iterator

from srum_jax.models.key_table import Rule

_LINEAR = (1, 0)
_CONV = (2, 3, 1, 0)


def linear(source: str, target: str, bias: bool = True, share: tuple[int, int] = (0, 1)) -> Iterator[Rule]:
    """A matrix, and its bias; see `Rule.share`."""
    yield Rule(f"{source}.weight", f"{target}.kernel", _LINEAR, share=share)
    if bias:
        yield Rule(f"{source}.bias", f"{target}.bias", share=share)


def conv(source: str, target: str) -> Iterator[Rule]:
    """A two-dimensional convolution."""
    yield Rule(f"{source}.weight", f"{target}.kernel", _CONV)
    yield Rule(f"{source}.bias", f"{target}.bias")


def norm(source: str, target: str) -> Iterator[Rule]:
    """A normalisation with scale and bias."""
    yield from rms(source, target)
    yield Rule(f"{source}.bias", f"{target}.bias")


def rms(source: str, target: str) -> Iterator[Rule]:
    """A normalisation with a scale alone."""
    yield Rule(f"{source}.weight", f"{target}.scale")
