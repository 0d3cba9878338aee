"""Compiles a train step for TPUs that are only described, and prints what came out as JSON. Run as a program."""

import dataclasses
import json
import os
import re
import sys

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import jax
from jax.experimental import topologies

from experiments.bagel_cot import experiment
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    LanguageConfig,
    SpecialTokens,
)
from srum_jax.models.bagel.sharding import RULES
from srum_jax.models.layers.logical_axes import check_layout
from srum_jax.training.abstract_run import abstract_run
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.step import compile_step, make_step

# Depth does not change a scanned program's compile time, and hardly its shape.
REAL = LanguageConfig(152064, 3584, 18944, 28, 28, 4, 1e-6, 1e6, 32768)


def main(topology: str, data: int, fsdp: int) -> None:
    recipe = experiment()
    config = BagelConfig(llm=REAL, vit=None, vae=AutoencoderConfig(), special_tokens=SpecialTokens())
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = build_mesh(MeshConfig(data=data, fsdp=fsdp), devices)
    rows = dataclasses.replace(recipe.data, rows_per_batch=data * fsdp)
    optimizer = make_optimizer(recipe.optimizer)
    run = abstract_run(config, recipe.model, rows, optimizer, mesh, recipe.compute.dtype)
    check_layout(run.state.parameters, mesh, RULES)
    step = make_step(run.graphdef, config, optimizer, objective=recipe.objective, compute=recipe.compute)
    compiled = compile_step(step, run.state, run.frozen, run.batch, mesh)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    print(json.dumps({
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters)),
        "peak_bytes": memory.peak_memory_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "reduce_scatters": text.count("calls=%all-reduce-scatter"),
        "all_gathers": len(re.findall(r" all-gather(?:-start)?\(", text)),
    }))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
