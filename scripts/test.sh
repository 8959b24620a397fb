#!/usr/bin/env bash
# Environment, then lint, types, tests, the measures of the tree, the documentation site and the wheel. Arguments go
# to pytest, and then only those tests are run:
#   bash scripts/test.sh -k polar
# COVERAGE=yes prints which lines of gcp no test has run.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
# one thread for each process: the tensors are small, and two processes on two cores beat two threads in one
coverage=()
[ -z "${COVERAGE:-}" ] || coverage=(--cov --cov-report=term:skip-covered)
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -n "${WORKERS:-auto}" --dist worksteal --timeout=600 -q "${coverage[@]}" "$@"
[ $# -eq 0 ] || exit 0

# The mathematics and the loop once more with default threads, as many as torch takes by itself: some faults
# of the libraries below show only then, and some of them are a process that stands still.
threads=()
for folder in conformance roots solvers kernels heads engine; do
    [ ! -d "tests/$folder" ] || threads+=("tests/$folder")
done
env -u OMP_NUM_THREADS "$PYTHON" -m pytest -n "${WORKERS:-auto}" --timeout=120 -q "${threads[@]}"

"$PYTHON" scripts/house.py --check
NO_MKDOCS_2_WARNING=1 "$PYTHON" -m mkdocs build --strict -f .mkdocs.yml -d "$(mktemp -d)/site"
bash scripts/check_wheel.sh
