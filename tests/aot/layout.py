"""What a train step takes on slices that are only described, by the layout of its arguments alone."""

import jax
from flax import nnx

from srum_jax.aot.compiled import bytes_per_device, described_devices
from srum_jax.aot.training import plan
from srum_jax.mesh import build_mesh
from srum_jax.training.abstract_run import abstract_run
from srum_jax.training.state import with_training_times

_UNREAD = (("vae", "decoder"), ("llm", "lm_head"))  # frozen weights that no step needs


def bytes_and_parameters(request, cache):
    """Of what a step reads on one chip, and how many are trained.

    `compile_apart` takes it in place of what compiles.
    """
    planned = plan(request)
    mesh = build_mesh(planned.experiment.mesh, described_devices(request.topology, request.num_slices))
    run = abstract_run(planned.experiment, with_training_times(planned.config, planned.experiment.model), mesh)
    read = [(path, value) for path, value in nnx.to_flat_state(run.frozen) if path[:2] not in _UNREAD]
    return (bytes_per_device((run.state, nnx.from_flat_state(read), run.batch)),
            sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters)))
