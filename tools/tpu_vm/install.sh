#!/usr/bin/env bash
# Puts this project on every worker: uploads it, makes a virtual environment, installs. Given again, it replaces it.
#
# usage: install.sh [options]
#   --commit COMMIT  upload this commit; without it the folder as it is, changes included
#   --extras LIST    of setup.py; default tpu. The reward stage with SAM needs tpu,rewards
#
# On every worker: ~/srum_jax (the project), ~/srum_jax_venv (Python 3.11 and the packages), ~/srum_jax_runs (logs).
# Needs access to the internet from the workers. Costs nothing beside the slice.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

commit='' extras=tpu
own_flag() { case $1 in --commit | --extras) take "$@" ;; esac; }
read_settings "$@"

# 1. one archive, kept out of the project
archive=${XDG_CACHE_HOME:-$HOME/.cache}/srum_jax/upload-$name.tar.gz
run mkdir -p "$(dirname "$archive")"
if [[ -n $commit ]]; then
  run git -C "$root" archive --format=tar.gz --output="$archive" "$commit"
else
  run tar -czf "$archive" --exclude=./.git --exclude=./runs --exclude=./venv --exclude=./.venv --exclude=__pycache__ \
    -C "$root" .
fi

# 2. to every worker
run gcloud compute tpus tpu-vm scp "$archive" "$name:srum_jax.tar.gz" "${where[@]}" --worker=all

# 3. on every worker. The images come with Python 3.10, which is too old: uv brings one of its own.
on_workers all "set -e
mkdir -p srum_jax_runs
flock -n srum_jax_runs/lock true || { echo 'a run is going on here: stop.sh first' >&2; exit 1; }
rm -rf srum_jax && mkdir srum_jax && tar -xzf srum_jax.tar.gz -C srum_jax
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.11 srum_jax_venv
~/.local/bin/uv pip install --quiet --python srum_jax_venv/bin/python --editable $(quoted "./srum_jax[$extras]")
echo \"installed on \$(hostname)\""
