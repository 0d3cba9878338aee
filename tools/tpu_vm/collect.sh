#!/usr/bin/env bash
# Copies settings, metrics and TensorBoard files of a run, and the log of every worker, to this machine.
#
# usage: collect.sh --workdir gs://BUCKET/RUN --out FOLDER [options]
#   --run-name NAME  as given to launch.sh; default train
#
# Checkpoints are large and stay in the bucket. Works while the run goes on; without a slice it leaves out
# the workers' logs. Transfers out of the bucket's region cost money.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

run_name=train workdir='' out='' required+=(workdir out)
own_flag() {
  case $1 in
    --run-name | --workdir | --out) take "$@" ;;
  esac
}
read_settings "$@"
workdir=${workdir%/}

run mkdir -p "$out/workers"
run gcloud storage cp "$workdir/config.json" "$workdir/metrics.jsonl" "$out/"
run gcloud storage rsync --recursive "$workdir/tensorboard" "$out/tensorboard"
find_state ACTIVE
if [[ $state == ACTIVE ]]; then  # one file a worker: 0.log, 1.log, ...
  on_workers all "cd $(quoted "srum_jax_runs/$run_name") && cat log.txt" --output-directory="$out/workers"
else
  say "$name is $state: the workers' logs are left out"
fi
