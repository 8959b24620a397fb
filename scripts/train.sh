#!/usr/bin/env bash
# The everyday command: environment, then train.py, in one process per GPU. Without arguments it says what to type.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
    cat <<'TEXT'
Train a recipe.

  bash scripts/train.sh CONFIG [key=value ...]    CONFIG: a file, or its name under configs/ such as cub/modern
  bash scripts/train.sh resume=RUN                continue a run where it stopped
  Paths in settings are relative to the project's folder. In front of the command:
  GPUS=4 or GPUS=0,2      so many GPUs, or these; else those of CUDA_VISIBLE_DEVICES, else all; one process on each
  PROCESSES=3             so many processes without GPUs
  RESTARTS=3              restart that often when a process dies, from the last checkpoint; needs run.name=NAME
  VENV=DIR                uses an environment that you have

Example:
  bash scripts/train.sh cub/modern data.root=/data/CUB_200_2011 head.name=svd_pade

Recipes:
TEXT
    cd "$project/configs"
    # A file without this command in its header is only there to be extended, or of another script.
    grep -l '^# command *python train.py ' */*.yaml | while read -r file; do
        printf '  %-28s %s\n' "${file%.yaml}" "$(sed -n '2s/^# //p' "$file")"
    done
}

[ $# -ge 1 ] || { usage >&2; exit 2; }
case "$1" in # as train.py takes it
    --config) [ $# -lt 2 ] || shift ;;
    --config=*) set -- "${1#--config=}" "${@:2}" ;;
esac
if [ -f "$1" ]; then
    arguments=("--config=$(realpath "$1")" "${@:2}")
else
    case "$1" in
        -h | --help) usage; exit 0 ;;
        resume=*) arguments=("$@") ;;
        -* | *=* | "")
            echo "error: the first argument is a configuration, not ${1@Q}; bash scripts/train.sh lists them." >&2
            exit 2 ;;
        /* | .*) arguments=("--config=$1" "${@:2}") ;;
        *) name="${1#configs/}" && arguments=("--config=configs/${name%.yaml}.yaml" "${@:2}") ;;
    esac
fi

case "${GPUS:-}" in
    "") ;;
    *[!0-9,]*) echo "error: GPUS=$GPUS; allowed: a number such as 4, or a list such as 0,2" >&2; exit 2 ;;
    *,*) export CUDA_VISIBLE_DEVICES="$GPUS" ;;
    *) [ -n "${CUDA_VISIBLE_DEVICES:-}" ] || CUDA_VISIBLE_DEVICES="$(seq -s, 0 $((GPUS - 1)))"
        export CUDA_VISIBLE_DEVICES="$(cut -d, -f"1-$GPUS" <<<"$CUDA_VISIBLE_DEVICES")" ;;
esac
if [ -n "${PROCESSES:-}" ]; then
    processes="$PROCESSES"
elif [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    processes="$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)"
else
    processes="$( (nvidia-smi -L 2>/dev/null || true) | grep -c '^GPU' || true)"
fi
case "$processes" in *[!0-9]* | "") echo "error: PROCESSES=$processes; allowed: a number such as 3" >&2; exit 2 ;; esac

export GCP_TRAIN="${GPUS:+GPUS=$GPUS }${PROCESSES:+PROCESSES=$PROCESSES }bash $0" # what messages tell to type
source "$project/scripts/environment.sh"
if [ "$processes" -le 1 ]; then
    exec "$PYTHON" train.py "${arguments[@]}"
fi
if [ "${RESTARTS:-0}" != 0 ] && [[ " ${arguments[*]} " != *" resume="* ]]; then
    arguments+=(resume=auto)
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(( ($(nproc) + processes - 1) / processes ))}"
exec "$PYTHON" -m gcp.cli.torchrun --standalone --nproc-per-node="$processes" --max-restarts="${RESTARTS:-0}" \
    train.py "${arguments[@]}"
