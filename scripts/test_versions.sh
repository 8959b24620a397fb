#!/usr/bin/env bash
# The tests with the oldest torch that pyproject.toml allows, and with the newest. Arguments go to pytest:
#   bash scripts/test_versions.sh                  all tests, twice
#   bash scripts/test_versions.sh tests/engine     some of them
# Environments are kept in .venv-oldest and .venv-newest (several GB each where torch's wheel is that for CUDA).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base="${BASE_PYTHON:-python3}"
# torch>=2.8 -> torch==2.8.*
oldest="$(sed -nE 's/^ *"(torch|torchvision)>=([0-9.]+)",$/\1==\2.*/p' pyproject.toml)"

for which in oldest newest; do
    python=".venv-$which/bin/python"
    [ -x "$python" ] || "$base" -m venv ".venv-$which"
    if [ "$which" = oldest ]; then
        # shellcheck disable=SC2086 (two words)
        "$python" -m pip install --quiet --disable-pip-version-check $oldest -r requirements.txt
    else
        "$python" -m pip install --quiet --disable-pip-version-check --upgrade -r requirements.txt
    fi
    echo "$which: torch $("$python" -c 'import torch; print(torch.__version__)')"
    OMP_NUM_THREADS=1 "$python" -m pytest -n "${WORKERS:-auto}" --dist worksteal --timeout=600 -q "$@"
done
