"""Compiles one program for one slice in a process of its own, and prints what came out as JSON. Run by `compile`.

    python -m srum_jax.aot.worker '{"topology": "v5e:2x4", ...}'

The request and the answer are those of `srum_jax.aot.compiling`. The TPU compiler reads its environment when it is
loaded, and takes down the process when it fails badly; neither should happen to the command that the user gave.
"""

import json
import logging
import os
import sys
import time

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import jax
from jax.experimental import topologies

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiling import CompileRequest, CompileResult
from srum_jax.aot.generation import abstract_programs, bytes_per_device, lower_program, program_arguments, state_bytes
from srum_jax.aot.hlo import collectives, host_calls
from srum_jax.mesh import MeshError, build_mesh
from srum_jax.models.layers.logical_axes import ShardingError

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def main(request: CompileRequest, cache: CompileCache) -> CompileResult:
    """Lowers and compiles, or finds the same program in the cache.

    Raises:
      MeshError, ShardingError: the mesh fits neither the slice nor the model.
    """
    devices = topologies.get_topology_desc(platform="tpu", topology_name=request.topology).devices
    mesh = build_mesh(request.mesh, devices)
    programs, state = abstract_programs(
        request.config, mesh, dtype=request.dtype, attention=request.attention, understanding=request.understanding
    )
    if request.shape.rows % programs.rows_multiple:
        raise MeshError(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), found "
                        f"{request.shape.rows}.")
    lowered = lower_program(programs, request.program, request.shape)
    key = cache.key(request.topology, lowered.as_text())
    found = cache.read(key)
    if found is not None:
        return CompileResult(**found | {"from_cache": True})
    arguments = program_arguments(programs, request.program, request.shape)
    state_total = sum(state_bytes(state).values())
    began = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise
        result = CompileResult(state_bytes=state_total, compile_seconds=time.perf_counter() - began,
                               refusal=_first_lines(str(error)))
    else:
        memory, text = compiled.memory_analysis(), compiled.as_text()
        exchanges = collectives(text)
        # What the program does not read lies in memory all the same; the compiler does not know of it.
        elsewhere = max(0, state_total + bytes_per_device(arguments) - memory.argument_size_in_bytes)
        result = CompileResult(
            state_bytes=state_total,
            compile_seconds=time.perf_counter() - began,
            argument_bytes=memory.argument_size_in_bytes,
            output_bytes=memory.output_size_in_bytes,
            alias_bytes=memory.alias_size_in_bytes,
            temporary_bytes=memory.temp_size_in_bytes,
            peak_bytes=memory.peak_memory_in_bytes,
            code_bytes=memory.generated_code_size_in_bytes,
            elsewhere_bytes=elsewhere,
            xla_flops=(compiled.cost_analysis() or {}).get("flops", 0.0),
            collectives={kind: sum(found.operation == kind for found in exchanges)
                         for kind in sorted({found.operation for found in exchanges})},
            largest_gather_bytes=max(
                (found.num_bytes for found in exchanges if found.operation == "all-gather"), default=0),
            host_calls=host_calls(text),
        )
        if request.hlo_file:
            with open(request.hlo_file, "w") as file:
                file.write(text)
    cache.write(key, result.to_json())
    return result


def _first_lines(message: str) -> str:
    return " ".join(message.split())[:400]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asked = json.loads(sys.argv[1])
    try:
        print(json.dumps(main(CompileRequest.from_json(asked["request"]), CompileCache(asked["cache"])).to_json()))
    except (MeshError, ShardingError) as error:
        print(json.dumps({"bad_request": str(error)}))
