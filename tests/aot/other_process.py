"""What a process that compiles might do."""

import os
import sys

from srum_jax.errors import BadInput


def answer(request, cache):
    return request


def refuse(request, cache):
    raise BadInput(f"{request}: no such thing")


def die(request, cache):
    print("a check failed", file=sys.stderr, flush=True)
    os._exit(7)
