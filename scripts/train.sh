#!/usr/bin/env bash
# The everyday command: environment, then train.py. Without arguments it says what to type.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
    cat <<'TEXT'
Train a recipe.

  bash scripts/train.sh CONFIG [key=value ...]    CONFIG: a file, or its name under configs/ such as cub/modern
  bash scripts/train.sh resume=RUN                continue a run where it stopped
  VENV=DIR in front uses an environment that you have. Paths in settings are relative to the project's folder.

Example:
  bash scripts/train.sh cub/modern data.root=/data/CUB_200_2011 head.name=svd_pade

Recipes:
TEXT
    cd "$project/configs"
    # A file without a command in its header is only there to be extended.
    grep -l '^# command ' */*.yaml | while read -r file; do
        printf '  %-28s %s\n' "${file%.yaml}" "$(sed -n '2s/^# //p' "$file")"
    done
}

[ $# -ge 1 ] || { usage >&2; exit 2; }
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

source "$project/scripts/environment.sh"
launch=("$PYTHON") # several GPUs: torchrun with its number of processes comes in here
exec "${launch[@]}" train.py "${arguments[@]}"
