#!/usr/bin/env bash
# Asks for a TPU slice as a queued resource and waits until it is there. Given again, it goes on waiting.
#
# usage: create.sh [options]
#   --accelerator-type TYPE    SRUM_TPU_TYPE             v5litepod-256, v6e-64, v5p-128 (v5p counts cores: 64 chips)
#   --runtime-version VERSION  SRUM_TPU_RUNTIME          default: the published image for this type
#   --service-account ADDRESS  SRUM_TPU_SERVICE_ACCOUNT  who the VMs are to the bucket; default: the project's
#   --spot                     much cheaper, but may be taken away at any time; without it: on demand
#   --no-wait                  only ask for it
#
# The slice costs money, idle or busy, from the state ACTIVE until delete.sh has deleted it. A request that still waits
# costs nothing, but becomes ACTIVE whenever there is room, at night too: delete.sh withdraws it.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

accelerator_type=${SRUM_TPU_TYPE:-} runtime_version=${SRUM_TPU_RUNTIME:-} service_account=${SRUM_TPU_SERVICE_ACCOUNT:-}
spot=no wait=yes required+=(accelerator_type)
own_flag() {
  case $1 in
    --accelerator-type | --runtime-version | --service-account) take "$@" ;;
    --spot) spot=yes used=1 ;;
    --no-wait) wait=no used=1 ;;
  esac
}
read_settings "$@"

if [[ -z $runtime_version ]]; then
  case $accelerator_type in
    v5p-*) runtime_version=v2-alpha-tpuv5 ;;
    v5litepod-*) runtime_version=v2-alpha-tpuv5-lite ;;
    v6e-*) runtime_version=v2-alpha-tpuv6e ;;
    *) refuse "--accelerator-type $accelerator_type: no image is known for it (known: v5p-N, v5litepod-N, v6e-N);" \
      "give --runtime-version too" ;;
  esac
fi
flags=(--node-id="$name" --accelerator-type="$accelerator_type" --runtime-version="$runtime_version")
[[ -z $service_account ]] || flags+=(--service-account="$service_account")
[[ $spot == no ]] || flags+=(--spot)

find_state ABSENT
if [[ $state == ABSENT ]]; then
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${flags[@]}"
else
  say "$name exists already, state $state"
fi
[[ $wait == yes && $dry_run == no ]] || exit 0
find_state
until [[ $state == ACTIVE ]]; do
  case $state in
    FAILED | SUSPENDING | SUSPENDED | DELETING | ABSENT)
      fail "$name is $state and will not become ACTIVE: delete.sh, then create.sh again" ;;
  esac
  say "$name: $state; asking again in $poll_seconds s (Ctrl-C leaves the request in the queue)"
  sleep "$poll_seconds"
  find_state
done
say "$name is ACTIVE and costs money until delete.sh has deleted it"
