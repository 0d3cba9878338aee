"""What is compiled for a slice that is not at hand is compiled as a user would."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def optimized():
    """Here and in the processes that are started from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", before)
