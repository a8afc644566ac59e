#!/bin/bash
# Trace many checkpoints on a TPU pod slice: one process on each of its machines, all started by one command from yours.
#
#     launch/tpu_pod.sh install my-pod us-central2-b
#     launch/tpu_pod.sh run     my-pod us-central2-b --checkpoints=amber:all --statements=stereoset --out=/mnt/shared/a
#     launch/tpu_pod.sh watch   my-pod us-central2-b
#     launch/tpu_pod.sh stop    my-pod us-central2-b
#
# install  copies this checkout (what is committed) to every machine and makes an environment there: some minutes.
# run      starts jtrace trace with --distributed and your flags on every machine, in the background, and returns
#          within a minute. Each machine traces its share of the checkpoints on its own chips; with --one_mesh all of
#          them trace each checkpoint together. A machine's log is ~/jtrace.log on it.
# watch    follows the log of the first machine; Ctrl-C ends the watching alone.
# stop     ends the processes in order.
#
# --out has to lie on a file system that every machine has mounted: Filestore (NFS), or a bucket by gcsfuse, see
# docs/clusters.md. For that, set MOUNT to the command that mounts it, which `run` executes first on every machine:
#
#     export MOUNT='mountpoint -q /mnt/shared || sudo mount --mkdir 10.0.0.2:/share /mnt/shared'
#
# After a preemption: delete the slice, create it again (gcloud compute tpus tpu-vm create ... --spot), then install and
# run as before. What is traced is not traced again.

set -euo pipefail

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -ge 3 ] || usage
action=$1 pod=$2 zone=$3
shift 3

everywhere() {
  gcloud compute tpus tpu-vm ssh "$pod" --zone="$zone" --worker=all --command="$1"
}

case $action in
  install)
    archive=$(mktemp -d)/jtrace.tar.gz
    git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$pod":jtrace.tar.gz --zone="$zone" --worker=all
    # The machines' own Python may be too old, so uv brings one.
    everywhere 'set -e
      rm -rf ~/jtrace && mkdir ~/jtrace && tar -xzf ~/jtrace.tar.gz -C ~/jtrace
      python3 -m pip install --quiet --user uv
      python3 -m uv venv --quiet --clear --python=3.12 ~/jtrace-env
      python3 -m uv pip install --quiet --python ~/jtrace-env/bin/python --editable "$HOME/jtrace[tpu]"'
    ;;
  run)
    [ $# -gt 0 ] || usage
    flags=$(printf '%q ' "$@")
    everywhere "set -e
      ${MOUNT:-true}
      if [ -e ~/jtrace.pid ] && kill -0 \$(cat ~/jtrace.pid) 2>/dev/null; then
        echo 'runs already; stop it first' >&2
        exit 1
      fi
      cd ~/jtrace
      setsid nohup ~/jtrace-env/bin/jtrace trace --distributed $flags >> ~/jtrace.log 2>&1 < /dev/null &
      echo \$! > ~/jtrace.pid"
    ;;
  watch)
    gcloud compute tpus tpu-vm ssh "$pod" --zone="$zone" --worker=0 --command='tail -n 50 -F ~/jtrace.log'
    ;;
  stop)
    everywhere 'kill -TERM $(cat ~/jtrace.pid)'
    ;;
  *)
    usage
    ;;
esac
