# Sourced by train_alexnet.sh, train_resnet.sh and finetune_fgvc.sh, for those who know the published scripts.
# `translate WORD ...` sets the array SETTINGS: variables of those scripts become settings, the rest stays as it is.

translate() {
    SETTINGS=()
    local word value
    for word in "$@"; do
        value="${word#*=}"
        case "$word" in
            arch=mpncovresnet*) SETTINGS+=("model.backbone=${value#mpncov}" model.last_stride=1) ;;
            arch=alexnet) SETTINGS+=(model.backbone=alexnet_bn) ;;
            arch=*) SETTINGS+=("model.backbone=$value") ;;
            image_representation=*) SETTINGS+=("head.name=$(head_name "$value")") ;;
            batchsize=*) SETTINGS+=("train.batch_size=$value" "optim.lr_batch=$value") ;; # there lr is never scaled
            epoch=*) SETTINGS+=("train.epochs=$value") ;;
            lr=*) SETTINGS+=("optim.lr=$value") ;;
            weight_decay=*) SETTINGS+=("optim.weight_decay=$value") ;;
            classifier_factor=*) SETTINGS+=("optim.classifier_lr_factor=$value") ;;
            *) SETTINGS+=("$word") ;;
        esac
    done
}

head_name() {
    case "$1" in
        GAvP) echo average ;;
        MPNCOV) echo newton_schulz ;;
        BCNN) echo bilinear ;;
        CBP) echo compact_bilinear ;;
        *) echo "${1,,}" ;;
    esac
}

# `folder DIR` prints the setting data.root for a folder named from where the script was called.
# YAML reads the value, so it is quoted.
folder() {
    [ -d "$1" ] || { echo "error: ROOT is the folder of the data set; there is no folder ${1@Q}." >&2; exit 2; }
    local path
    path="$(cd "$1" && pwd)"
    echo "data.root='${path//\'/\'\'}'"
}

OLD_NAMES="\
Settings are key=value, see python train.py --help. The variables of the published scripts are understood as well:
  arch=resnet50                    model.backbone=resnet50
  image_representation=SVD_Taylor  head.name=svd_taylor (MPNCOV: newton_schulz, GAvP: average, BCNN: bilinear)
  batchsize=128  epoch=60          train.batch_size=128 optim.lr_batch=128 (lr is not scaled)  train.epochs=60
  lr=0.05  weight_decay=1e-4       optim.lr=0.05  optim.weight_decay=1e-4
  classifier_factor=10             optim.classifier_lr_factor=10"
