"""Compiling one lowered program for chips that are only described, or finding what the compiler made of it before."""

import dataclasses
import math
import re
import time

import jax
from jax.experimental import topologies

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiling import CompileResult
from srum_jax.errors import BadInput

# What a chip's memory runs out with. The same code stands for its small on-chip memory, which no smaller batch helps.
_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED.*\bhbm\b", re.DOTALL)
_NO_SUCH_SLICE = "INVALID_ARGUMENT"
_NO_SUCH_OPTION = "No such compile option"
_KEY_BYTES = 8  # of one random key
_WORDS = 400  # characters of a refusal that are kept


def described_devices(topology: str, num_slices: int = 1) -> list[jax.Device]:
    """All chips of one slice, or of several of the same kind.

    Raises:
      BadInput: the compiler knows no such slice.
    """
    slices = {"num_slices": num_slices} if num_slices > 1 else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **slices).devices
    except jax.errors.JaxRuntimeError as error:
        if _NO_SUCH_SLICE not in str(error):
            raise
        said = str(error).splitlines()[0]
        raise BadInput(f"--topology: expected a slice that exists, found {topology!r} ({said}).") from error


def compile_lowered(
    lowered: jax.stages.Lowered, arguments, cache: CompileCache, topology: str, options: dict[str, str]
) -> tuple[CompileResult, str]:
    """What the compiler says of a program, and the compiled program's text ("" where there was no memory for it).

    Args:
      lowered: the program.
      arguments: all that lies in memory while it runs, read by it or not, as shapes with shardings.
      cache: of earlier results, texts among them.
      topology: name of the slice.
      options: of the compiler.

    Raises:
      BadInput: the compiler has no such option.
    """
    key = cache.key(f"{topology} {sorted(options.items())}", lowered.as_text())
    total = bytes_per_device(arguments)
    if (kept := cache.read(key)) is not None:
        found = kept["result"]
        # Arguments that a program does not read are not in its text: another model's may be larger.
        own = {"from_cache": True, "state_bytes": total,
               "elsewhere_bytes": 0 if found["refusal"] else max(0, total - found["argument_bytes"])}
        return CompileResult(**found | own), kept["program"]
    began = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        if _NO_SUCH_OPTION in str(error):
            raise BadInput(f"--compiler-option: {str(error).splitlines()[0]}") from error
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        refusal = " ".join(str(error).split())[:_WORDS]
        result, text = CompileResult(total, time.perf_counter() - began, refusal=refusal), ""
    else:
        memory, text = compiled.memory_analysis(), compiled.as_text()
        result = CompileResult(
            state_bytes=total,
            compile_seconds=time.perf_counter() - began,
            argument_bytes=memory.argument_size_in_bytes,
            output_bytes=memory.output_size_in_bytes,
            alias_bytes=memory.alias_size_in_bytes,
            temporary_bytes=memory.temp_size_in_bytes,
            peak_bytes=memory.peak_memory_in_bytes,
            code_bytes=memory.generated_code_size_in_bytes,
            # What the program does not read lies in memory all the same; the compiler does not know of it.
            elsewhere_bytes=max(0, total - memory.argument_size_in_bytes),
            xla_flops=(compiled.cost_analysis() or {}).get("flops", 0.0),
        )
    cache.write(key, {"result": dataclasses.asdict(result), "program": text})
    return result, text


def bytes_per_device(tree) -> int:
    """Of arrays or their descriptions, each with a sharding."""
    return sum(_shard_bytes(leaf) for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.ShapeDtypeStruct))


def _shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    shard = leaf.sharding.shard_shape(leaf.shape)
    size = _KEY_BYTES if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf.dtype.itemsize
    return size * math.prod(shard)
