#!/usr/bin/env bash
# AlexNet with batch norm on ImageNet by the published settings: configs/imagenet/alexnet_bn.yaml.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/old_names.sh"

usage() {
    cat <<TEXT
Train AlexNet with batch norm on ImageNet: svd_pade, batch 128, lr 0.0794, decay at epochs 10 and 20 of 30, weight decay 5e-4.

  bash scripts/train_alexnet.sh ROOT [settings]    ROOT: the folder that holds train/ and val/

Example:
  bash scripts/train_alexnet.sh /data/imagenet image_representation=SVD_Taylor

$OLD_NAMES
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 2 ;;
esac
root="$(folder "$1")"
translate imagenet/alexnet_bn "${@:2}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" imagenet/alexnet_bn "$root" "${SETTINGS[@]}"
