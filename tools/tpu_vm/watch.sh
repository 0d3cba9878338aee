#!/usr/bin/env bash
# Shows the state of the queued resource and of the run, then follows the log of one worker until Ctrl-C.
#
# usage: watch.sh [options]
#   --run-name NAME  as given to launch.sh; default train
#   --worker N       whose log; default 0. With --once also "all"
#   --lines N        of the log to begin with; default 40
#   --once           do not follow it
set -euo pipefail
. "$(dirname "$0")/settings.sh"

run_name=train worker=0 lines=40 follow=' -F'
own_flag() {
  case $1 in
    --run-name | --worker | --lines) take "$@" ;;
    --once) follow='' used=1 ;;
  esac
}
read_settings "$@"

find_state ACTIVE
say "$name: $state"
[[ $state == ACTIVE ]] || fail "nothing can run on it. SUSPENDED means pre-empted: delete.sh and create.sh, or run.sh"
on_workers "$worker" "cd $(quoted "srum_jax_runs/$run_name") && cat state && tail -n $(quoted "$lines")$follow log.txt"
