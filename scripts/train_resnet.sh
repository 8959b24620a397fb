#!/usr/bin/env bash
# ResNet-50 on ImageNet by the published settings: configs/imagenet/resnet50.yaml.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/old_names.sh"

usage() {
    cat <<TEXT
Train ResNet-50 on ImageNet: svd_pade, batch 256, lr 0.0794, decay at epochs 30 and 45 of 60, weight decay 1e-4.

  bash scripts/train_resnet.sh ROOT [settings]    ROOT: the folder that holds train/ and val/

Example:
  bash scripts/train_resnet.sh /data/imagenet arch=resnet101 image_representation=MPNCOV

$OLD_NAMES
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 2 ;;
esac
root="$(folder "$1")"
translate imagenet/resnet50 "${@:2}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" imagenet/resnet50 "$root" "${SETTINGS[@]}"
