"""Commands of the cloud that write down how they were called, for the scripts of tools/tpu_vm.

`gcloud ... tpu-vm ssh` runs its command on this machine, in a home directory of its own: a pod of one worker.
"""

import os
import pathlib
import subprocess

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "tools" / "tpu_vm"

# Answers come from files: `states`, one line for each question, the last one for all further ones.
_GCLOUD = r"""#!/usr/bin/env bash
{ for word; do printf '%s\0' "$word"; done; printf '\036'; } >>"$FAKE/calls"
case "$*" in
  *"queued-resources describe"*)
    state=$(head -n 1 "$FAKE/states")
    (($(wc -l <"$FAKE/states") == 1)) || sed -i 1d "$FAKE/states"
    case $state in
      ABSENT) echo "ERROR: (gcloud) NOT_FOUND: Resource was not found" >&2; exit 1 ;;
      LOGGED_OUT) echo "ERROR: (gcloud) Your credentials were not found" >&2; exit 1 ;;
      DENIED) echo "ERROR: (gcloud) PERMISSION_DENIED" >&2; exit 1 ;;
    esac
    echo "WARNING: a newer version is available" >&2
    echo "$state"
    echo "Updates are available for some components." >&2 ;;
  *"queued-resources create"*) [[ ! -e $FAKE/no-quota ]] || { echo "ERROR: quota" >&2; exit 1; } ;;
  *"queued-resources delete"*)
    if [[ -e $FAKE/undeletable ]]; then rm "$FAKE/undeletable"; echo "ERROR: 503" >&2; exit 1; fi ;;
  *"tpu-vm describe"*) echo "${WORKERS:-1}" ;;
  *"storage cp"*) [[ ! -e $FAKE/empty-bucket ]] || { echo "ERROR: matched no objects" >&2; exit 1; } ;;
  *" list "*) cat "$FAKE/others" 2>/dev/null || true ;;
  *"tpu-vm scp"*) cp "$5" "$FAKE/worker/${6#*:}" ;;
  *"tpu-vm ssh"*)
    for word; do case $word in --command=*) command=${word#--command=} ;; esac; done
    cd "$FAKE/worker" && HOME=$FAKE/worker bash -c "$command" && exit "${UNREACHABLE:-0}" ;;
esac
"""
_XPK = r"""#!/usr/bin/env bash
{ for word; do printf '%s\0' "$word"; done; printf '\036'; } >>"$FAKE/calls"
case "$*" in *"workload list"*) cat "$FAKE/workloads" 2>/dev/null || true ;; esac
"""


class FakeCloud:
    """A directory with the commands, what they answer, and what they were asked."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.worker = directory / "worker"
        (directory / "bin").mkdir()
        self.worker.mkdir()
        for name, text in {"gcloud": _GCLOUD, "xpk": _XPK, "docker": _XPK, "kubectl": _XPK}.items():
            path = directory / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        self.states("ABSENT")

    def states(self, *states: str) -> None:
        """What the queued resource will be, question by question."""
        (self.directory / "states").write_text("".join(f"{state}\n" for state in states))

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Of a script: the fake commands first, and a complete set of settings unless they are changed."""
        settings = {
            "SRUM_TPU_NAME": "pod", "SRUM_TPU_ZONE": "us-east5-a", "SRUM_TPU_PROJECT": "my-project",
            "SRUM_TPU_TYPE": "v6e-64", "SRUM_TPU_POLL_SECONDS": "0.05", "HOME": "/home/me", "XDG_CACHE_HOME": None,
            "SRUM_TPU_RUNTIME": None, "SRUM_TPU_SERVICE_ACCOUNT": None, "SRUM_TPU_IMAGE": None, "SRUM_TPU_SLICES": None,
            "FAKE": str(self.directory), "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
        }
        return {name: value for name, value in (os.environ | settings | changes).items() if value is not None}

    def run(self, script: str, *args: str, **changes: str | None) -> subprocess.CompletedProcess:
        """Runs a script to its end."""
        return subprocess.run(["bash", str(SCRIPTS / script), *args], env=self.environment(**changes), text=True,
                              capture_output=True, timeout=120, stdin=subprocess.DEVNULL)

    def calls(self) -> list[list[str]]:
        """Every call since the last question, word by word, without the name of the command."""
        path = self.directory / "calls"
        if not path.exists():
            return []
        calls = [call.split("\0")[:-1] for call in path.read_text().split("\x1e")[:-1]]
        path.unlink()
        return calls

    def verbs(self) -> list[str]:
        """What the TPU commands were asked for since the last question: describe, create, ssh, ..."""
        return [words[3] for words in self.calls()]
