"""Having programs compiled in processes of their own."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

from etils import epath

from srum_jax.errors import BadInput, Failure
from srum_jax.families.bagel.generation_programs import GenerationShape
from srum_jax.inference.settings import FlowSampler, Guidance, TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig, SpecialTokens, VisionConfig


class CompileError(Failure):
    """The compiler failed for another reason than memory."""


class CompileRequestError(BadInput):
    """What is asked for cannot be: the mesh fits neither the slice nor the model, or the compiler knows no such slice
    or option."""


@dataclasses.dataclass(frozen=True)
class CompileRequest:
    """One program for one slice."""

    topology: str
    mesh: MeshConfig
    config: BagelConfig
    program: str  # of `PROGRAM_NAMES`
    shape: GenerationShape
    dtype: str = "bfloat16"
    attention: str = "splash"
    understanding: bool = True  # whether the vision tower is in memory too
    hlo_file: str | None = None  # where the compiled program's text goes

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CompileRequest":
        """From what `to_json` gave, after a way through JSON."""
        config, shape, sampler = values["config"], values["shape"], values["shape"]["sampler"]
        parts = {
            "llm": LanguageConfig(**config["llm"]),
            "vit": None if config["vit"] is None else VisionConfig(**config["vit"]),
            "vae": AutoencoderConfig(**config["vae"] | {"ch_mult": tuple(config["vae"]["ch_mult"])}),
            "special_tokens": SpecialTokens(**config["special_tokens"]),
        }
        sampler = FlowSampler(**sampler | {"guidance": Guidance(**sampler["guidance"])})
        shape = GenerationShape(**shape | {"sampler": sampler, "text": TextSampler(**shape["text"])})
        return cls(**values | {"mesh": MeshConfig(**values["mesh"]), "config": BagelConfig(**config | parts),
                               "shape": shape})


@dataclasses.dataclass(frozen=True)
class CompileResult:
    """What the compiler says of a program. Bytes are those of one chip."""

    state_bytes: int  # all weights, read by this program or not
    compile_seconds: float
    argument_bytes: int = 0  # weights that it reads, and its inputs
    output_bytes: int = 0
    alias_bytes: int = 0  # outputs that lie where donated inputs lay
    temporary_bytes: int = 0
    peak_bytes: int = 0  # at once, arguments included
    code_bytes: int = 0
    elsewhere_bytes: int = 0  # weights and inputs that it does not read
    xla_flops: float = 0.0  # by the compiler: a loop's body once, Pallas kernels as nothing
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)
    largest_gather_bytes: int = 0
    host_calls: list[str] = dataclasses.field(default_factory=list)
    refusal: str | None = None  # the compiler's words, if the program needs more memory than there is
    from_cache: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @property
    def needed_bytes(self) -> int:
        """Memory of one chip while the program runs."""
        return self.peak_bytes + self.elsewhere_bytes + self.code_bytes

    def fits(self, limit_bytes: int) -> bool:
        """Whether a chip has enough memory."""
        return self.refusal is None and self.needed_bytes <= limit_bytes


def compile_program(request: CompileRequest, cache: epath.PathLike | None, *, nice: int = 0) -> CompileResult:
    """Compiles in another process.

    Args:
      request: what to compile.
      cache: directory of earlier results; None for none.
      nice: by how much the process gives way to others.

    Raises:
      CompileRequestError: the mesh fits neither the slice nor the model.
      CompileError: the compiler failed.
    """
    asked = {"request": request.to_json(), "cache": None if cache is None else str(cache)}
    answer = run_worker("srum_jax.aot.worker", json.dumps(asked), f"{request.program} for {request.topology}", nice)
    return CompileResult(**answer)


def run_worker(module: str, request: str, what: str, nice: int = 0) -> dict[str, Any]:
    """Runs a module with a request as its argument, and reads its answer.

    Args:
      module: prints its answer, one line of JSON, last.
      request: JSON.
      what: is compiled, for messages.
      nice: by how much the process gives way to others.

    Raises:
      CompileRequestError: the answer is that the request cannot be met.
      CompileError: the process ended without an answer.
    """
    command = [*(["nice", "-n", str(nice)] if nice else []), sys.executable, "-m", module, request]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise CompileError(f"{what}: the compiling process ended with code {done.returncode}. Its last words:\n"
                           f"{done.stderr[-2000:]}") from error
    if "bad_request" in answer:
        raise CompileRequestError(answer["bad_request"])
    return answer
