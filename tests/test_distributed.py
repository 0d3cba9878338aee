import os
import socket
import subprocess
import sys

import pytest

from srum_jax import distributed
from srum_jax.distributed import ADDRESS, DistributedError, _read, _what_is_missing
from srum_jax.errors import Failure

GIVEN = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:8476", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


def test_the_variables_say_which_process_of_how_many_this_is():
    assert tuple(_read(GIVEN).values()) == ("10.0.0.1:8476", 2, 1)
    assert set(_read({"HOME": "/"}).values()) == {None}
    assert _read(GIVEN | {"JAX_COORDINATOR_ADDRESS": "[fd00::1]:80"})[ADDRESS] == "[fd00::1]:80"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JAX_PROCESS_ID": "2"}, r"JAX_PROCESS_ID: expected a number from 0 to 1 \(JAX_NUM_PROCESSES is 2\).*found 2"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID: expected a number from 0 to 1 .*found -1"),
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID: expected a whole number, found ''"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES: expected a whole number, found 'two'"),
        ({"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES: expected .* at least 1, found 0"),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "JAX_COORDINATOR_ADDRESS: expected HOST:PORT .*found '10.0.0.1'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(changes, message):
    with pytest.raises(DistributedError, match=message):
        _read(GIVEN | changes)


@pytest.mark.parametrize("missing", GIVEN)
def test_a_variable_that_is_missing_is_named_beside_those_that_are_there(missing):
    given = [name for name in GIVEN if name != missing]
    message = _what_is_missing(_read({name: GIVEN[name] for name in given}), ValueError("jax says so"))
    assert message.endswith(f"found {given[0]}={GIVEN[given[0]]}, {given[1]}={GIVEN[given[1]]} without {missing}.")
    assert "jax says so" in message


def test_half_set_variables_are_an_error_where_jax_finds_no_cluster(monkeypatch):
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PROCESS_ID", "1")

    def initialize(address, count, number, **_):
        assert (address, count, number) == (None, None, 1)
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    with pytest.raises(DistributedError, match=r"found JAX_PROCESS_ID=1 without JAX_COORDINATOR_ADDRESS, JAX_NUM_PROC"):
        distributed.join(meeting_seconds=60)


def test_a_failure_that_may_pass_is_none_of_the_environment(monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("Kubernetes API Error: 503 - Service Unavailable")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    with pytest.raises(Failure, match=r"not met .*503"):
        distributed.join(meeting_seconds=60)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "reason"), [
    (0, "not all of them came to process 0 at 127.0.0.1"),
    (1, "process 0 does not answer at 127.0.0.1"),
])
def test_a_process_that_is_left_alone_says_so_and_ends_with_1_so_that_it_is_started_again(number, reason):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    alone = subprocess.run(
        [sys.executable, "-c", "from srum_jax.distributed import join; join(meeting_seconds=2)"],
        env=os.environ | GIVEN | {"JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_ID": str(number)},
        capture_output=True, text=True, timeout=100)
    assert alone.returncode == 1 and "Traceback" not in alone.stderr
    assert f"process {number} of 2" in alone.stderr and "waited 2 s" in alone.stderr and reason in alone.stderr
