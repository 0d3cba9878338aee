#!/usr/bin/env bash
# One command for all of it: creates the slice, installs, launches, and stays to put things right: a slice that was
# pre-empted is deleted, asked for again and set up anew; a worker that came back from maintenance is started again.
# Ends when the run has finished (0), or has failed or was stopped (1). Given again, it goes on from where things are.
#
# usage: run.sh [options of create.sh, install.sh and launch.sh] -- ARGUMENTS OF srum_jax.train
#   --delete    delete the slice at the end, also when the run failed
#
# Ctrl-C ends this script, not the run. Without --delete the slice costs money after the run has ended: delete.sh.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

poll_seconds=${SRUM_TPU_POLL_SECONDS:-120}  # every worker is asked over ssh
creating=() installing=() launching=(--keep) delete=no
own_flag() {
  case $1 in
    --accelerator-type | --runtime-version | --service-account) used=2; creating+=("${@:1:2}") ;;
    --spot) used=1; creating+=("$1") ;;
    --commit | --extras) used=2; installing+=("${@:1:2}") ;;
    --run-name | --max-restarts | --env | --module) used=2; launching+=("${@:1:2}") ;;
    --delete) used=1 delete=yes ;;
  esac
  (($# >= used)) || refuse "$1: expected a value"
}
read_settings "$@"
((${#rest[@]})) || refuse "the command's arguments are missing: run.sh [options] -- --experiment=... --workdir ..."

do_script() {  # SCRIPT ARGUMENT...: a script of this folder about the same slice
  local same=(--name "$name" "${where[@]}")
  [[ $dry_run == no ]] || same+=(--dry-run)
  bash "$here/$1.sh" "${same[@]}" "${@:2}"
}
create() { do_script create ${creating[@]+"${creating[@]}"}; }
install() { do_script install ${installing[@]+"${installing[@]}"}; }
launch() { do_script launch "${launching[@]}" -- "${rest[@]}"; }
finish() {  # CODE WORDS
  say "$2"
  if [[ $delete == yes ]]; then
    local tries=1
    until do_script delete; do
      ((++tries <= 10)) || fail "$name COULD NOT BE DELETED AND MAY COST MONEY: give delete.sh until it is gone"
      sleep "$poll_seconds"
    done
  fi
  exit "$1"
}
known=no  # whether the cloud has answered: what is refused at first is refused for good, what fails later may pass
look() {
  until ask_state; do
    [[ $known == yes ]] || fail "gcloud cannot tell the state of $name in $zone of $project: $answer"
    say "gcloud cannot tell the state of $name for now: $answer"
    sleep "$poll_seconds"
  done
  known=yes
}
if [[ $dry_run == yes ]]; then create; install; launch; [[ $delete == no ]] || do_script delete; exit 0; fi

failures=0 had_one=no
while :; do
  look
  case $state in
    FAILED)
      ((++failures <= 3)) || fail "$name has FAILED $failures times in a row; this says why: $(quoted "${describe[@]}")"
      say "$name is FAILED: asking for another"; do_script delete || sleep "$poll_seconds"; continue ;;
    SUSPENDED)
      had_one=yes
      say "$name is SUSPENDED: asking for another"; do_script delete || sleep "$poll_seconds"; continue ;;
    SUSPENDING | DELETING) say "$name is $state"; sleep "$poll_seconds"; continue ;;
    ACTIVE) failures=0 had_one=yes ;;
    *)  # asks for it, or waits; lost while waiting is no failure
      create && continue
      look
      [[ $state != ABSENT || $had_one == yes ]] || fail "$name could not be created; the reason stands above"
      sleep "$poll_seconds"; continue ;;
  esac
  code=0 answer=$(launch) || code=$?  # one or more lines from every worker
  [[ -z $answer ]] || say "$answer"
  if [[ $answer == *"not installed"* ]]; then
    install && continue
  elif grep -Eq '^(failed|stopped)' <<<"$answer"; then  # of one worker, whether or not the others can be reached
    finish 1 "$name: the run has failed or was stopped; watch.sh shows the log, launch.sh starts it again"
  elif [[ $code == 0 ]] && grep -q '^finished' <<<"$answer" && ! grep -Eq '^(already|started)' <<<"$answer"; then
    finish 0 "$name: the run has finished"
  fi
  sleep "$poll_seconds"  # it runs, or a worker cannot be reached for now
done
