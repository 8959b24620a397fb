#!/usr/bin/env bash
# Environment, then train svd_pade on handwritten digits, evaluate, and say where the curves are.
# Arguments are settings: bash scripts/quickstart.sh head.name=newton_schulz train.epochs=5
set -euo pipefail
source "$(dirname "$0")/environment.sh"

folder=runs name="quickstart-$(date +%Y%m%d-%H%M%S)"
for setting in "$@"; do
    case "$setting" in
        run.dir=*) folder="${setting#*=}" ;;
        run.name=*) name="${setting#*=}" ;;
    esac
done
"$PYTHON" train.py --config configs/digits/resnet.yaml "$@" run.dir="$folder" run.name="$name"
echo
echo "evaluate.py scores the saved weights once more, from the file alone:"
"$PYTHON" evaluate.py --checkpoint "$folder/$name"
