#!/usr/bin/env bash
# Several slices as one run, on Google Kubernetes Engine by way of xpk (pip install xpk; kubectl and docker are needed).
#
# usage: xpk_multislice.sh image|create|launch|watch|stop|delete [options] [-- ARGUMENTS OF srum_jax.train]
#   image     build the container and push it        create   the cluster with its slices (repeatable)
#   launch    start the run (not twice)              watch    its state, then the log of the first worker
#   stop      end the run                            delete   the cluster: THIS IS WHAT STOPS THE COST
#   --tpu-type TYPE     SRUM_TPU_TYPE    of one slice: v5p-128, v5litepod-256, v6e-256
#   --num-slices N      SRUM_TPU_SLICES  default 2
#   --image IMAGE       SRUM_TPU_IMAGE   for example us-docker.pkg.dev/PROJECT/srum/srum_jax:v1
#   --workload NAME     default srum-train
#   --max-restarts N    of the whole job, when a slice was lost, and of the command in it; default 20
#   --spot              default: on demand
#
# The cluster costs money from create to delete: its slices, and the small machines that steer it. Stop does not end it.
set -euo pipefail
. "$(dirname "$0")/settings.sh"

tpu_type=${SRUM_TPU_TYPE:-} num_slices=${SRUM_TPU_SLICES:-2} image=${SRUM_TPU_IMAGE:-}
workload=srum-train max_restarts=20 capacity=--on-demand action=''
case ${1:-} in
  image) action=$1 required+=(image) ;;
  create) action=$1 required+=(tpu_type) ;;
  launch) action=$1 required+=(tpu_type image) ;;
  watch | stop | delete) action=$1 ;;
  --help | -h) usage; exit 0 ;;
  *) refuse "expected image, create, launch, watch, stop or delete first, found ${1:-nothing}" ;;
esac
own_flag() {
  case $1 in
    --tpu-type | --num-slices | --image | --workload | --max-restarts) take "$@" ;;
    --spot) capacity=--spot used=1 ;;
  esac
}
read_settings "${@:2}"
slices=(--tpu-type="$tpu_type" --num-slices="$num_slices")

case $action in
  image)
    run docker build --platform=linux/amd64 --file="$here/Dockerfile" --tag="$image" "$root"
    run docker push "$image" ;;
  create)  # xpk keeps what is there already, and adds or removes slices
    run xpk cluster create --cluster="$name" "${where[@]}" "${slices[@]}" "$capacity" ;;
  launch)
    ((${#rest[@]})) || refuse "the arguments of srum_jax.train are missing behind --"
    found=$(run xpk workload list --cluster="$name" "${where[@]}" --filter-by-job="$workload")
    if [[ $dry_run == yes ]]; then printf '%s\n' "$found"; fi
    if [[ $dry_run == no ]] && awk '{print $1}' <<<"$found" | grep -qx -- "$workload"; then
      say "$workload exists already"; exit 0
    fi
    # exec: the SIGTERM of a pre-emption must reach supervise.sh. Exit code 1: of a process that lost its peers.
    command=$(quoted exec bash tools/tpu_vm/supervise.sh --folder "/tmp/srum_jax_runs/$workload" --echo \
      --max-restarts "$max_restarts" -- python -m srum_jax.train --distributed "${rest[@]}")
    run xpk workload create --workload="$workload" --cluster="$name" "${where[@]}" "${slices[@]}" \
      --docker-image="$image" --max-restarts="$max_restarts" --restart-on-exit-codes=1 \
      --termination-grace-period-seconds=300 --command="$command" ;;
  watch)
    run xpk workload list --cluster="$name" "${where[@]}" --filter-by-job="$workload"
    # xpk has set kubectl up for this cluster by now. The first pod of the first slice:
    pod=jobset.sigs.k8s.io/jobset-name=$workload,jobset.sigs.k8s.io/job-index=0
    pod+=,batch.kubernetes.io/job-completion-index=0
    run kubectl logs --follow --tail=40 --all-containers --selector="$pod" ;;
  stop)
    run xpk workload delete --workload="$workload" --cluster="$name" "${where[@]}" --force
    say "the cluster still costs money: $(basename "$0") delete" ;;
  delete)
    run xpk cluster delete --cluster="$name" "${where[@]}" --force
    left=$(run gcloud container clusters list --project="$project" --filter="name=$name" '--format=value(name)')
    if [[ $dry_run == yes ]]; then printf '%s\n' "$left"; exit 0; fi
    [[ -z $left ]] || fail "the cluster $left is STILL THERE AND COSTS MONEY: give this command again"
    say "$name is gone. Images in the registry and buckets still cost a little" ;;
esac
