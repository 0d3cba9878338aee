#!/usr/bin/env bash
# Deletes the slice with all its disks, and checks that it is gone. THIS IS WHAT STOPS THE COST. Repeatable.
#
# usage: delete.sh [options]
#
# A run on it is killed: stop.sh first saves. What is only on the workers is lost: collect.sh first. What stays, and
# costs a little every month, is the bucket.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
read_settings "$@"

find_state ACTIVE
if [[ $state == ABSENT ]]; then
  say "there is no $name in $zone of $project"
else
  # --force: the TPU VM too, not only the request that asked for it. --quiet: no question.
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  find_state ABSENT
  [[ $state == ABSENT ]] || fail "$name is STILL THERE (state $state) AND MAY COST MONEY: give this command again"
fi
for kind in queued-resources tpu-vm; do  # others of this zone may be somebody else's; they are only named
  left=$(run gcloud compute tpus "$kind" list "${where[@]}" '--format=value(name.basename())')
  if [[ $dry_run == yes ]]; then printf '%s\n' "$left"; continue; fi
  if grep -Fqx -- "$name" <<<"$left"; then
    fail "$name IS STILL LISTED AND MAY COST MONEY: give this command again, and then" \
      "$(quoted gcloud compute tpus "$kind" delete "$name" "${where[@]}")"
  fi
  [[ -z $left ]] || say "left in $zone ($kind): ${left//$'\n'/ }"
done
[[ $dry_run == yes ]] || say "$name is gone and costs nothing any more; buckets do (gcloud storage rm --recursive)"
