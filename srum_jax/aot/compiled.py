"""Compiling one lowered program, or finding what the compiler made of the same program before."""

import time

import jax

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.generation import bytes_per_device

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
_WORDS = 400  # characters of a refusal that are kept


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
    """
    key = cache.key(f"{topology} {sorted(options.items())}", lowered.as_text())
    found, text = cache.read(key), cache.read_text(key)
    if found is not None and (text or found["refusal"]):
        return CompileResult(**found | {"from_cache": True}), text or ""
    total = bytes_per_device(arguments)
    began = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
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
    cache.write(key, result.to_json(), text)
    return result, text
