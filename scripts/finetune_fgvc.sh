#!/usr/bin/env bash
# Fine-tuning on birds, cars, aircraft or dogs by the published settings: configs/DATASET/RECIPE.yaml.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/old_names.sh"
configs="$(dirname "${BASH_SOURCE[0]}")/../configs"

usage() {
    cat <<TEXT
Fine-tune on a fine-grained data set.

  bash scripts/finetune_fgvc.sh DATASET ROOT [settings]           ROOT: the folder of the data set
  bash scripts/finetune_fgvc.sh DATASET/RECIPE ROOT [settings]    another recipe than the first of the data set

DATASET and recipes, the first is what DATASET alone means:
  cub        resnet50_seb resnet50_isqrt vgg16_bn_isqrt vgg16_bcnn modern
  cars       resnet50_seb resnet50_isqrt vgg16_bn_isqrt vgg16_bcnn modern
  aircraft   resnet50_seb resnet50_isqrt vgg16_bn_isqrt vgg16_bcnn modern
  dogs       resnet50_svd_pade modern

The published recipes start from an ImageNet run (train_resnet.sh); model.pretrained=FILE starts from weights that you
have, model.pretrained=true from plain ImageNet weights.

Example:
  bash scripts/finetune_fgvc.sh cub /data/CUB_200_2011 image_representation=SVD_Pade lr=1e-3

$OLD_NAMES
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 2 ;;
esac
case "$1" in
    cub | cars | aircraft) recipe="$1/resnet50_seb" ;;
    dogs) recipe=dogs/resnet50_svd_pade ;;
    */*) recipe="${1%.yaml}" ;;
    *) echo "error: no data set ${1@Q}; allowed: cub, cars, aircraft, dogs, or one of them with /RECIPE." >&2; exit 2 ;;
esac
[ -f "$configs/$recipe.yaml" ] || {
    echo "error: no recipe ${recipe@Q}; bash scripts/finetune_fgvc.sh --help lists them." >&2; exit 2; }
[ $# -ge 2 ] || { echo "error: ROOT is missing: bash scripts/finetune_fgvc.sh $1 ROOT" >&2; exit 2; }
root="$(folder "$2")"
translate "$recipe" "${@:3}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" "$recipe" "$root" "${SETTINGS[@]}"
