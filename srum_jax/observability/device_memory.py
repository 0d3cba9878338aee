"""How much memory the devices of this process need."""

from collections.abc import Sequence

import jax

_GIB = 2**30


def memory_of_step(compiled: jax.stages.Compiled) -> str:
    """What the compiler says before the first step."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return "memory per device: this backend does not say"
    parts = {"arguments": analysis.argument_size_in_bytes, "temporaries": analysis.temp_size_in_bytes,
             "donated": analysis.alias_size_in_bytes}
    return "memory per device: " + ", ".join(f"{name} {size / _GIB:.3f} GiB" for name, size in parts.items())


def memory_in_use(devices: Sequence[jax.Device]) -> dict[str, float]:
    """What the runtime says while steps run: of the device that needs most, GiB; nothing where it does not say.

    Args:
      devices: of this process.
    """
    found = [stats for device in devices if (stats := device.memory_stats()) is not None]
    keys = {"memory/peak_gib": "peak_bytes_in_use", "memory/limit_gib": "bytes_limit"}
    return {name: max(stats[key] for stats in found) / _GIB
            for name, key in keys.items() if found and all(key in stats for stats in found)}
