"""Compiles one train step in a process of its own, and prints what came out as JSON. Run by `compile`.

    python -m srum_jax.aot.training_worker '{"request": {...}, "cache": "DIR"}'

The request and the answer are those of `srum_jax.aot.training`; for the process of its own see `srum_jax.aot.worker`.
"""

import collections
import dataclasses
import json
import logging
import os
import re
import sys

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import jax
from jax.sharding import Mesh

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiled import compile_lowered
from srum_jax.aot.compiling import CompileRequestError
from srum_jax.aot.devices import described_devices
from srum_jax.aot.hlo_collectives import MeshOfChips, collectives, summary
from srum_jax.aot.hlo_costs import kernels, products
from srum_jax.aot.hlo_program import Program
from srum_jax.aot.training import TrainRequest, TrainResult
from srum_jax.data.errors import CapacityError
from srum_jax.families.bagel.step_costs import RowStatistics, attention_flops, full_row, row_statistics, scaled
from srum_jax.families.bagel.step_flops import step_flops
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshError
from srum_jax.models.layers.logical_axes import ShardingError, check_layout, shapes_by_name
from srum_jax.training.abstract_run import AbstractRun, abstract_run
from srum_jax.training.state import ModelError, family_of_source
from srum_jax.training.step import lower_step

_BAD_REQUEST = (MeshError, ShardingError, ModelError, CapacityError, CompileRequestError)


def main(request: TrainRequest, cache: CompileCache) -> TrainResult:
    """Lowers and compiles, or finds the same program in the cache; then reads the program.

    Raises:
      MeshError, ShardingError, ModelError, CapacityError: the mesh or the settings fit neither the slice nor the model.
      CompileRequestError: there is no such slice, or the compiler has no such option.
    """
    experiment = request.experiment
    mesh = _mesh(request)
    config, source = request.config, experiment.model
    if source.timestep_shift is not None:
        config = dataclasses.replace(config, timestep_shift=source.timestep_shift)
    run = abstract_run(experiment, config, mesh)
    if experiment.mesh.check_layout:
        check_layout(run.state.parameters, mesh, family_of_source(source).architecture.rules)
    row = row_statistics(full_row(experiment.data, config, request.prompt_tokens),
                         experiment.compute.attention_block if experiment.compute.attention == "splash" else 0,
                         mesh.shape["seq"])
    lowered = lower_step(run.step, run.state, run.frozen, run.batch, mesh)
    options = dict(option.split("=", 1) for option in request.compiler_options)
    name = request.topology if request.num_slices == 1 else f"{request.num_slices} x {request.topology}"
    memory, text = compile_lowered(lowered, (run.state, run.frozen, run.batch), cache, name, options)
    if request.hlo_file:
        with open(request.hlo_file, "w") as file:
            file.write(text)
    counts = scaled(row.counts, request.rows)
    result = TrainResult(
        memory=memory,
        model_flops=step_flops(config, counts, shapes_by_name(run.state.parameters)),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters)),
        padding=row.padding,
        real_tokens=counts.und_tokens + counts.gen_tokens,
    )
    return result if memory.refusal else _with_program(result, text, request, run, row, mesh)


def _mesh(request: TrainRequest) -> Mesh:
    return build_mesh(request.experiment.mesh, described_devices(request.topology, request.num_slices))


def _with_program(result: TrainResult, text: str, request: TrainRequest, run: AbstractRun, row: RowStatistics,
                  mesh: Mesh) -> TrainResult:
    program = Program(text)
    found = products(program)
    by_origin = collections.Counter()
    for product in found:
        by_origin[_part(product.where)] += product.flops
    attention, unknown = attention_flops(kernels(program), request.config, row)
    chips = MeshOfChips(dict(mesh.shape), request.num_slices)
    return dataclasses.replace(
        result,
        product_flops=sum(product.flops for product in found),
        attention_flops=attention,
        collectives=summary(collectives(program, chips)),
        flops_by_origin=dict(by_origin.most_common()),
        unknown_loops=program.unknown_loops,
        unknown_kernels=unknown,
    )


def _part(where: str) -> str:
    """To which part of the step an operation belongs, by JAX's name of it."""
    if "conv_general_dilated" in where or "BTNH" in where or "BNTS" in where:
        return "autoencoder" if "transpose" not in where else "other"
    if not re.search(r"/while/|/scan/", where):
        return "embeddings and heads"
    if "rematted_computation" in where:
        return "layers, recomputed"
    return "layers, backward" if "transpose(" in where else "layers, forward"


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asked = json.loads(sys.argv[1])
    try:
        found = main(TrainRequest.from_json(asked["request"]), CompileCache(asked["cache"]))
        print(json.dumps(dataclasses.asdict(found)))
    except _BAD_REQUEST as error:
        print(json.dumps({"bad_request": str(error)}))
