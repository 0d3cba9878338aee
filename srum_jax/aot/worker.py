"""Compiles one program in a process of its own, and prints what came out as JSON. Run by `compile`.

    python -m srum_jax.aot.worker '{"kind": "train step", "request": {...}, "cache": "DIR"}'

The TPU compiler reads its environment when it is loaded, and takes down the process when it fails badly; neither should
happen to the command that the user gave.
"""

import json
import logging
import os
import sys

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

from srum_jax.aot import drawing_program, train_step
from srum_jax.aot.cache import CompileCache
from srum_jax.aot.generation import DrawingRequest
from srum_jax.aot.training import TrainRequest
from srum_jax.errors import BadInput
from srum_jax.overrides import from_json, to_json

_KINDS = {request.kind: (request, compile_) for request, compile_ in (
    (TrainRequest, train_step.compile_step), (DrawingRequest, drawing_program.compile_program))}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asked = json.loads(sys.argv[1])
    kind, compile_ = _KINDS[asked["kind"]]
    try:
        print(json.dumps(to_json(compile_(from_json(kind, asked["request"]), CompileCache(asked["cache"])))))
    except BadInput as error:
        print(json.dumps({"bad_request": str(error)}))
