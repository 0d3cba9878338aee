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
  describe=(gcloud compute tpus queued-resources describe "$name" "${where[@]}")
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

# Asks for the state of the queued resource: sets `state` to WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED
# (pre-empted), ..., or ABSENT. Fails, with the reason in `answer`, if the cloud does not say.
ask_state() {
  if answer=$("${describe[@]}" '--format=value(state.state)' 2>&1); then
    state=$(grep -E '^[A-Z_]+$' <<<"$answer" | tail -n 1)  # warnings stand around it
  elif [[ $answer == *NOT_FOUND* || $answer == *"queuedResources/$name"*"not found"* ]]; then
    state=ABSENT  # no other "not found": that of a command or of credentials says nothing about what costs money
  else
    return 1
  fi
}

# The same, and the end if the cloud does not say. With --dry-run the answer is taken to be the argument.
find_state() {
  if [[ $dry_run == yes ]]; then
    quoted "${describe[@]}" '--format=value(state.state)'
    printf '# if it is %s:\n' "$1"
    state=$1
  else
    ask_state || fail "gcloud cannot tell the state of $name in $zone of $project: $answer"
  fi
}
