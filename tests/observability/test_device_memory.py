import types

import jax

from srum_jax.observability.device_memory import memory_in_use, memory_of_step


def device(**stats):
    return types.SimpleNamespace(memory_stats=lambda: stats or None)


def test_the_device_that_needs_most_counts():
    devices = [device(peak_bytes_in_use=2**30, bytes_limit=2**34), device(peak_bytes_in_use=3 * 2**29,
                                                                          bytes_limit=2**34)]
    assert memory_in_use(devices) == {"memory/peak_gib": 1.5, "memory/limit_gib": 16.0}


def test_a_backend_that_does_not_say_has_no_scalar():
    assert memory_in_use([device()]) == {}
    assert memory_in_use([device(bytes_in_use=7)]) == {}


def test_the_compiler_says_what_a_step_needs():
    compiled = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((1 << 20,), "float32")).compile()
    assert "arguments 0.004 GiB" in memory_of_step(compiled)
