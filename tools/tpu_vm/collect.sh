#!/usr/bin/env bash
# Copies settings, metrics, goodput and TensorBoard files of a run, and the log of every worker, to this machine.
#
# usage: collect.sh --workdir gs://BUCKET/RUN --out FOLDER [options]
#   --run-name NAME  as given to launch.sh; default train
#
# FOLDER/workers gets one file a worker: 0.log, 1.log, ... Checkpoints are large and stay in the bucket. Works while the
# run goes on; without a slice it leaves out the workers' logs. Transfers out of the bucket's region cost money.
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
absent=no  # a run that failed early has written none of these; its log says why, and still comes
run gcloud storage cp "$workdir/config.json" "$workdir"/{metrics,goodput}.jsonl "$out/" || absent=yes
run gcloud storage rsync --recursive "$workdir/tensorboard" "$out/tensorboard" || absent=yes
find_state ACTIVE
if [[ $state == ACTIVE ]]; then
  # One after the other: what several workers print at once would be mixed up. (--output-directory of gcloud 528 writes
  # to a folder called None.)
  workers=$(run gcloud compute tpus tpu-vm describe "$name" "${where[@]}" '--format=value(networkEndpoints.len())')
  print_log="cat $(quoted "srum_jax_runs/$run_name/log.txt")"
  if [[ $dry_run == yes ]]; then
    printf '%s\n# for every worker N, here 0; its output goes to %s:\n' "$workers" "$(quoted "$out/workers/N.log")"
    on_workers 0 "$print_log"
    exit 0
  fi
  for ((worker = 0; worker < workers; worker++)); do
    on_workers "$worker" "$print_log" >"$out/workers/$worker.log" || absent=yes
  done
else
  say "$name is $state: the workers' logs are left out"
fi
[[ $absent == no ]] || fail "some of it could not be copied; the reasons stand above"
