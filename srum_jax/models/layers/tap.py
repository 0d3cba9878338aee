"""Looking at values inside a model while it runs."""

from collections.abc import Callable
from typing import Any

Tap = Callable[[str, Any], None]  # called with the name of a value, and the value


def no_tap(name: str, value: Any) -> None:
    """Looks at nothing."""
