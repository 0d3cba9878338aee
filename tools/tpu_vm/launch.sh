#!/usr/bin/env bash
# Starts a training run on all workers, and keeps it going there (supervise.sh). Where it is running, nothing happens.
#
# usage: launch.sh [options] -- ARGUMENTS OF srum_jax.train
#   --run-name NAME     folder of logs, ~/srum_jax_runs/NAME on each worker; default train
#   --max-restarts N    after crashes and pre-emption notices; default 20
#   --env NAME=VALUE    for the command's environment; repeatable
#   --module MODULE     another command than srum_jax.train, with exactly these arguments
#   --keep              leave a run alone that has finished, failed or was stopped
#
#   launch.sh -- --experiment=bagel_cot --workdir gs://BUCKET/runs/cot --set data.records=gs://BUCKET/records
#
# srum_jax.train gets --distributed, and goes on from the newest step in its --workdir, which all workers must reach.
# The slice costs money after the run has ended too, until delete.sh.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

run_name=train max_restarts=20 module='' keep=no environment=()
own_flag() {
  case $1 in
    --run-name | --max-restarts | --module) take "$@" ;;
    --env) (($# > 1)) || refuse "--env: expected NAME=VALUE"; environment+=("$2"); used=2 ;;
    --keep) keep=yes used=1 ;;
  esac
}
read_settings "$@"
((${#rest[@]})) || refuse "the command's arguments are missing: launch.sh [options] -- --experiment=... --workdir ..."
[[ $max_restarts =~ ^[0-9]+$ ]] || refuse "--max-restarts: expected a number, found $max_restarts"

command=(../srum_jax_venv/bin/python -m "${module:-srum_jax.train}")
[[ -n $module ]] || command+=(--distributed)
command+=("${rest[@]}")
((${#environment[@]} == 0)) || command=(env "${environment[@]}" "${command[@]}")
folder=../srum_jax_runs/$run_name
supervised=$(quoted bash tools/tpu_vm/supervise.sh --folder "$folder" --max-restarts "$max_restarts" -- "${command[@]}")

# The lock is held by a run that is alive; the file `state` says how the last one ended.
on_workers all "cd srum_jax 2>/dev/null || { echo 'not installed'; exit 1; }
mkdir -p $(quoted "$folder") && cd $(quoted "$folder") && touch state
flock -n ../lock true || { held=\$(cat ../holder)
  echo \"already running on \$(hostname): \$held: \$(cat \"../\$held/state\")\"; exit 0; }
if [ $keep = yes ] && grep -Eq '^(finished|failed|stopped)' state; then cat state; exit 0; fi
cd ~/srum_jax && { nohup setsid $supervised > /dev/null 2>&1 < /dev/null & }
echo \"started on \$(hostname)\""
