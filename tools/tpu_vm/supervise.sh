#!/usr/bin/env bash
# Runs one command on one worker and starts it again when it was pre-empted or has crashed. launch.sh starts this.
#
# usage: supervise.sh --folder FOLDER [--max-restarts N] [--delay SECONDS] [--echo] -- COMMAND...
#   --echo    the log on standard output too, for containers
#
# FOLDER gets log.txt, pid, child and state (a line: running, restarting, finished, failed, stopped or interrupted);
# FOLDER/../lock is held meanwhile, FOLDER/../holder names the folder. How the command ends decides:
#   0                       finished. But if it printed "stopped as asked" it got a SIGTERM, saved, and is restarted
#   2 at the first start    failed: its arguments or files cannot be used, which another start would not change
#   anything else           restarted, N times at most (default 20), then failed
# A SIGTERM to this script is passed on and ends it: state stopped if it was stop.sh, which leaves a file `stop`, and
# interrupted if the machine goes down. Exit code 143, for which Kubernetes restarts a container; 0 would count as done.
set -euo pipefail

folder='' max_restarts=20 delay=10 echo=no
while (($#)); do
  case $1 in
    --folder) folder=$2; shift 2 ;;
    --max-restarts) max_restarts=$2; shift 2 ;;
    --delay) delay=$2; shift 2 ;;
    --echo) echo=yes; shift ;;
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --) shift; break ;;
    *) echo "error: $1: no such argument; --help lists them" >&2; exit 2 ;;
  esac
done
[[ -n $folder && $# -gt 0 ]] || { echo "error: --folder and a command behind -- are needed; see --help" >&2; exit 2; }

export PYTHONUNBUFFERED=1  # watch.sh would see nothing for minutes
mkdir -p "$folder"
log=$folder/log.txt
exec 9>"$folder/../lock"  # the command inherits it: whoever is left alive holds it
flock -n 9 || { echo "a run is going on already" >&2; exit 0; }
basename "$folder" >"$folder/../holder"
note() {  # for watch.sh and launch.sh, complete or not at all
  printf '%s\n' "$*" >"$folder/state.new" && mv "$folder/state.new" "$folder/state"
  printf '=== %s %s\n' "$(date -u +%FT%TZ)" "$*" >>"$log"
}
end_by_sigterm() {
  if [[ -e $folder/stop ]]; then note "stopped: $1"; else note "interrupted by SIGTERM: $1"; fi
  exit 143
}
stopped=no child=''
trap 'stopped=yes; [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT
rm -f "$folder/stop"
echo $$ >"$folder/pid"
if [[ $echo == yes ]]; then
  touch "$log"
  tail -n 0 -F "$log" 9>&- 2>/dev/null &
  follower=$!
  trap 'sleep 1; kill "$follower" || true' EXIT  # it needs a moment for the last lines
fi

for ((attempt = 0; ; attempt++)); do
  note "running, start $((attempt + 1)): $*"
  before=$(wc -c <"$log")
  "$@" >>"$log" 2>&1 </dev/null &
  child=$!
  echo "$child" >"$folder/child"
  [[ $stopped == no ]] || kill -TERM "$child" || true  # it came before there was anybody to pass it on to
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done  # a signal ends `wait`, not the command
  child=''
  [[ $stopped == no ]] || end_by_sigterm "the command ended with exit code $code"
  asked=no
  if grep -q '^stopped as asked' <(tail -c "+$((before + 1))" "$log"); then asked=yes; fi
  [[ $code != 0 || $asked == yes ]] || { note "finished"; exit 0; }
  ((code != 2 || attempt > 0)) || { note "failed: exit code 2; the end of log.txt says what cannot be used"; exit 2; }
  [[ $code != 0 ]] || code=143
  ((attempt < max_restarts)) || { note "failed: exit code $code after $attempt restarts"; exit "$code"; }
  note "restarting, $((attempt + 1)) of $max_restarts, in $delay s: exit code $code"
  for ((waited = 0; waited < delay; waited++)); do  # by the second: a SIGTERM must not wait for the end of it all
    [[ $stopped == yes ]] || sleep 1 9>&-
  done
  [[ $stopped == no ]] || end_by_sigterm "between two starts"
done
