# shellcheck shell=bash disable=SC2034
# Settings and words that the scripts of this folder share. Sourced by them, not run. Works in bash 3.2 and newer.

name=${SRUM_TPU_NAME:-} zone=${SRUM_TPU_ZONE:-} project=${SRUM_TPU_PROJECT:-}
required=(name zone project)              # what a script cannot do without; xpk_multislice.sh adds to it
poll_seconds=${SRUM_TPU_POLL_SECONDS:-30}  # between two questions about a state
dry_run=no rest=()                        # rest: what stands behind "--"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }
refuse() { say "error: $*"; exit 2; }  # the arguments or settings cannot be used

usage() {  # the comment at the top of the script, then the options that all of them have
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  cat <<'TEXT'

every script:
  --name NAME        SRUM_TPU_NAME     of the queued resource and of its TPU VM; of the cluster for xpk_multislice.sh
  --zone ZONE        SRUM_TPU_ZONE     for example us-east5-a
  --project PROJECT  SRUM_TPU_PROJECT  the Google Cloud project
  --dry-run          print the commands and run none of them
The second column is the environment variable that is used where the flag is not given.
A slice costs money, idle or busy, until delete.sh has deleted it.
TEXT
}

own_flag() { :; }  # a script with flags of its own replaces this; it sets `used` to the number of words it took
take() {           # --some-flag VALUE becomes some_flag=VALUE
  (($# > 1)) || refuse "$1: expected a value"
  local variable=${1#--}
  printf -v "${variable//-/_}" %s "$2"
  used=2
}

read_settings() {
  while (($#)); do
    case $1 in
      --help | -h) usage; exit 0 ;;
      --) shift; rest=("$@"); break ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    used=0
    case $1 in
      --name | --zone | --project) take "$@" ;;
      --dry-run) dry_run=yes used=1 ;;
      *) own_flag "$@" ;;
    esac
    ((used)) || refuse "$1: no such argument; --help lists them"
    shift "$used"
  done
  local setting
  for setting in "${required[@]}"; do
    [[ -n ${!setting} ]] || refuse "--${setting//_/-} is not set: give the flag, or the variable that --help names"
  done
  where=(--zone="$zone" --project="$project")
}

quoted() {  # the words as a shell would have to be given them
  local word line='' quote="'" escaped="'\\''"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@,%+-]*) word=$quote${word//$quote/$escaped}$quote ;;
    esac
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

run() {  # prints a command, and runs it unless --dry-run was given
  if [[ $dry_run == yes ]]; then quoted "$@"; else say "+ $(quoted "$@")"; "$@"; fi
}

on_workers() {  # WORKER COMMAND [FLAG...]: a command line for the shell of one worker, or of "all"
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command="$2" "${@:3}"
}

# Sets `state` to that of the queued resource: WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED (pre-empted), ...,
# or ABSENT. With --dry-run the answer is taken to be the argument.
find_state() {
  local ask=(gcloud compute tpus queued-resources describe "$name" "${where[@]}" '--format=value(state.state)')
  if [[ $dry_run == yes ]]; then
    quoted "${ask[@]}"
    printf '# if it is %s:\n' "$1"
    state=$1
  elif state=$("${ask[@]}" 2>&1); then
    state=${state##*$'\n'}  # warnings stand above it
  elif [[ $state == *NOT_FOUND* || $state == *"not found"* ]]; then
    state=ABSENT
  else
    fail "gcloud cannot tell the state of $name in $zone of $project: $state"
  fi
}
