#!/usr/bin/env bash
# Everything that wants an NVIDIA GPU, within eight minutes: tests, goals, heads, training steps. Writes gpu-report/.
#   bash scripts/gpu_report.sh [--out FOLDER] [--limit SECONDS] [--parts NAME ...] [--rehearse]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/gpu_report.py" "$@"
