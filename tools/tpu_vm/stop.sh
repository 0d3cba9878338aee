#!/usr/bin/env bash
# Ends the run on all workers: SIGTERM, upon which training saves after the current step. Waits for it, at most 10
# minutes.
#
# usage: stop.sh [options]
#   --run-name NAME  as given to launch.sh; default train
#
# launch.sh goes on from the saved step. THIS DOES NOT STOP THE COST: an idle slice costs what a busy one does, until
# delete.sh.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

run_name=train
own_flag() { case $1 in --run-name) take "$@" ;; esac; }
read_settings "$@"

# If nothing runs, or another run, the number in `pid` may be somebody else's by now. `child` is the command itself.
on_workers all "cd $(quoted "srum_jax_runs/$run_name") 2>/dev/null || { echo 'no such run'; exit 0; }
flock -n ../lock true && { echo \"nothing runs on \$(hostname)\"; exit 0; }
[ \"\$(cat ../holder)\" = $(quoted "$(basename "$run_name")") ] ||
  { echo \"another run is going on on \$(hostname): \$(cat ../holder)\" >&2; exit 1; }
touch stop  # tells a wish from a machine that goes down
kill -TERM \"\$(cat pid)\" 2>/dev/null || kill -TERM \"\$(cat child)\"
flock -w 600 ../lock cat state || { echo \"still running on \$(hostname) after 10 minutes\" >&2; exit 1; }"
say "the slice still costs money: delete.sh ends that"
