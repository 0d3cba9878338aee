"""Compiles one program for one slice in a process of its own, and prints what came out as JSON. Run by `compile`.

    python -m srum_jax.aot.worker '{"topology": "v5e:2x4", ...}'

The request and the answer are those of `srum_jax.aot.compiling`. The TPU compiler reads its environment when it is
loaded, and takes down the process when it fails badly; neither should happen to the command that the user gave.
"""

import collections
import dataclasses
import json
import logging
import os
import sys

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

from jax.sharding import Mesh

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiled import compile_lowered
from srum_jax.aot.compiling import CompileRequest, CompileRequestError, CompileResult
from srum_jax.aot.devices import described_devices
from srum_jax.aot.hlo_collectives import MeshOfChips, collectives
from srum_jax.aot.hlo_program import Program, host_calls
from srum_jax.families.bagel.generation_programs import abstract_programs, lower_program, program_arguments, state_bytes
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshError
from srum_jax.models.layers.logical_axes import ShardingError


def main(request: CompileRequest, cache: CompileCache) -> CompileResult:
    """Lowers and compiles, or finds the same program in the cache.

    Raises:
      MeshError, ShardingError: the mesh fits neither the slice nor the model.
      CompileRequestError: there is no such slice.
    """
    mesh = build_mesh(request.mesh, described_devices(request.topology))
    programs, state = abstract_programs(
        request.config, mesh, dtype=request.dtype, attention=request.attention, understanding=request.understanding
    )
    if request.shape.rows % programs.rows_multiple:
        raise MeshError(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), found "
                        f"{request.shape.rows}.")
    lowered = lower_program(programs, request.program, request.shape)
    arguments = program_arguments(programs, request.program, request.shape)
    memory, text = compile_lowered(lowered, (state, arguments), cache, request.topology, {})
    if request.hlo_file:
        with open(request.hlo_file, "w") as file:
            file.write(text)
    result = dataclasses.replace(memory, state_bytes=sum(state_bytes(state).values()))
    return result if memory.refusal else _with_program(result, Program(text), mesh)


def _with_program(result: CompileResult, program: Program, mesh: Mesh) -> CompileResult:
    exchanges = collectives(program, MeshOfChips(dict(mesh.shape)))
    kinds = collections.Counter(found.kind for found in exchanges)
    return dataclasses.replace(
        result,
        collectives=dict(sorted(kinds.items())),
        largest_gather_bytes=max((found.num_bytes for found in exchanges if found.kind == "all-gather"), default=0),
        host_calls=host_calls(program),
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asked = json.loads(sys.argv[1])
    try:
        print(json.dumps(main(CompileRequest.from_json(asked["request"]), CompileCache(asked["cache"])).to_json()))
    except (MeshError, ShardingError, CompileRequestError) as error:
        print(json.dumps({"bad_request": str(error)}))
