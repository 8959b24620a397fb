#!/usr/bin/env bash
# Environment, then lint, types and tests. Arguments go to pytest: bash scripts/test.sh -k polar
set -euo pipefail
source "$(dirname "$0")/environment.sh"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
# one thread for each process: the tensors are small, and two processes on two cores beat two threads in one
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -n "${WORKERS:-auto}" --dist worksteal -q "$@"
