"""Lowers and compiles a train step, in the process that does nothing else."""

import collections
import dataclasses
import re

import jax

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiled import bytes_per_device, compile_lowered, described_devices
from srum_jax.aot.hlo_collectives import MeshOfChips, collectives, summary
from srum_jax.aot.hlo_costs import Kernel, kernels, products
from srum_jax.aot.hlo_program import Program
from srum_jax.aot.training import TrainRequest, TrainResult, plan
from srum_jax.families.costs import RowWork
from srum_jax.mesh import build_mesh
from srum_jax.models.layers.logical_axes import check_layout, shapes_by_name
from srum_jax.training.abstract_run import abstract_run
from srum_jax.training.state import with_training_times
from srum_jax.training.step import lower_step


def compile_step(request: TrainRequest, cache: CompileCache) -> TrainResult:
    """Compiles, or finds the same program in the cache; then reads the program.

    Raises:
      BadInput: the mesh or the settings fit neither the slice nor the model; there is no such slice, or the compiler
        has no such option.
    """
    planned = plan(request)
    experiment, config, costs = planned.experiment, planned.config, planned.family.costs
    mesh = build_mesh(experiment.mesh, described_devices(request.topology, request.num_slices))
    config = with_training_times(config, experiment.model)
    run = abstract_run(experiment, config, mesh)
    if experiment.mesh.check_layout:
        check_layout(run.state.parameters, mesh, planned.family.architecture.rules)
    row = costs.full_row(
        experiment.rows, config, request.prompt_tokens, seq=mesh.shape["seq"],
        block=experiment.compute.attention_block if experiment.compute.attention == "splash" else 0,
    )
    lowered = lower_step(run.step, run.state, run.frozen, run.batch, mesh)
    options = dict(option.split("=", 1) for option in request.compiler_options)
    name = request.topology if request.num_slices == 1 else f"{request.num_slices} x {request.topology}"
    initial = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, experiment.compute.compute_dtype, sharding=leaf.sharding),
        run.state.parameters) if experiment.keeps_initial else ()
    memory, text = compile_lowered(lowered, (run.state, run.frozen, run.batch, initial), cache, name, options)
    if request.hlo_file:
        with open(request.hlo_file, "w") as file:
            file.write(text)
    result = TrainResult(
        memory=memory,
        model_flops=row.step_flops(shapes_by_name(run.state.parameters), planned.rows),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters)),
        padding=row.padding,
        real_tokens=planned.rows * row.tokens,
        resident_bytes=bytes_per_device((run.state, initial)),
    )
    return result if memory.refusal else _with_program(result, Program(text), row,
                                                       MeshOfChips(dict(mesh.shape), request.num_slices))


def _with_program(result: TrainResult, program: Program, row: RowWork, chips: MeshOfChips) -> TrainResult:
    found = products(program)
    by_origin = collections.Counter()
    for product in found:
        by_origin[_part(product.where)] += product.flops
    attention, unknown = _attention_flops(kernels(program), row)
    return dataclasses.replace(
        result,
        product_flops=sum(product.flops for product in found),
        attention_flops=attention,
        collectives=summary(collectives(program, chips)),
        flops_by_origin=dict(by_origin.most_common()),
        unknown_loops=program.unknown_loops,
        unknown_kernels=unknown,
    )


def _attention_flops(found: list[Kernel], row: RowWork) -> tuple[float, list[str]]:
    """FLOPs of all calls of the attention kernels on one chip, and the names of kernels that are not known."""
    calls = [(kernel, row.kernel_flops(kernel.name, kernel.operands)) for kernel in found]
    return (sum(kernel.executions * flops for kernel, flops in calls if flops is not None),
            [kernel.name for kernel, flops in calls if flops is None])


def _part(where: str) -> str:
    """To which part of the step an operation belongs, by JAX's name of it."""
    if "conv_general_dilated" in where or "BTNH" in where or "BNTS" in where:
        return "autoencoder" if "transpose" not in where else "other"
    if not re.search(r"/while/|/scan/", where):
        return "embeddings and heads"
    if "rematted_computation" in where:
        return "layers, recomputed"
    return "layers, backward" if "transpose(" in where else "layers, forward"
