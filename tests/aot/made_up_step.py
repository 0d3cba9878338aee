"""A train step for a slice, and what a compiler might have said of it."""

from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.topology import GIB
from srum_jax.aot.training import TrainRequest, TrainResult
from srum_jax.mesh_config import MeshConfig

MESH = {"data": 2, "fsdp": 32, "seq": 1, "tensor": 1}
GATHER = {"kind": "all-gather", "bytes": 2**20, "instructions": 1, "executions": 28, "group": 32, "over": ["fsdp"],
          "crosses_slices": False, "in_loop": True, "hidden": False, "received_bytes": 60e9, "where": "a/dot"}
BETWEEN = GATHER | {"kind": "all-reduce", "over": ["data"], "crosses_slices": True, "hidden": True,
                    "received_bytes": 1e9}


def request(**changes):
    return TrainRequest(**{"topology": "v5p:4x4x4", "experiment": "bagel_cot", "mesh": MeshConfig(data=2, fsdp=32)}
                        | changes)


def result(**changes):
    memory = CompileResult(state_bytes=5 * GIB, compile_seconds=60, argument_bytes=5 * GIB, peak_bytes=11 * GIB)
    fields = dict(memory=memory, model_flops=64 * 300e12, parameters=14 * 10**9, padding=0.01, real_tokens=64 * 8000,
                  product_flops=300e12, attention_flops=100e12, collectives=[GATHER, BETWEEN],
                  flops_by_origin={"layers, forward": 300e12})
    return TrainResult(**fields | changes)
