# Sourced by train_alexnet.sh, train_resnet.sh and finetune_fgvc.sh, for those who know the published scripts.
# `translate RECIPE WORD ...` sets the array SETTINGS: variables of those scripts become settings, the rest stays as it
# is. A run gets the name of its recipe and of the variables that were given, and the same command continues it.

translate() {
    local recipe="$1" word value suffix="" named="" arch="" frozen="" method=step params="" epochs=""
    SETTINGS=()
    shift
    for word in "$@"; do
        value="${word#*=}"
        case "$word" in
            arch=*) arch="$value"; suffix+="-$value"
                case "$value" in
                    mpncovresnet*) SETTINGS+=("model.backbone=${value#mpncov}" model.last_stride=1) ;;
                    alexnet) SETTINGS+=(model.backbone=alexnet_bn) ;;
                    *) SETTINGS+=("model.backbone=$value") ;;
                esac ;;
            image_representation=*) SETTINGS+=("head.name=$(head_name "$value")"); suffix+="-$value" ;;
            description=*) suffix+="-$value" ;;
            benchmark=*) check_benchmark "${recipe%%/*}" "$value" ;;
            num_classes=*) check_classes "${recipe%%/*}" "$value" ;;
            batchsize=*) SETTINGS+=("train.batch_size=$value" "optim.lr_batch=$value") # there lr is never scaled
                suffix+="-bs$value" ;;
            epoch=*) SETTINGS+=("train.epochs=$value"); epochs="$value" ;;
            lr=*) SETTINGS+=("optim.lr=$value"); suffix+="-lr$value" ;;
            lr_method=*) method="$value" ;;
            lr_params=*) params="${value//\\/}" ;;
            freeze_layer=*) frozen="$value" ;;
            weight_decay=*) SETTINGS+=("optim.weight_decay=$value") ;;
            classifier_factor=*) SETTINGS+=("optim.classifier_lr_factor=$value") ;;
            run.name=* | resume=*) named="${word%%=*}"; SETTINGS+=("$word") ;;
            *) SETTINGS+=("$word") ;;
        esac
    done
    [ -z "$params" ] && [ "$method" = step ] || learning_rates "$recipe" "$method" "$params" "$epochs"
    [ -z "$frozen" ] || freeze "${arch:-$(in_recipe "$recipe" backbone)}" "$frozen"
    [ -n "$named" ] || SETTINGS+=("run.name=$(tr -c 'A-Za-z0-9_+=,.-' _ <<<"${recipe//\//-}$suffix" | sed 's/_$//')")
    [ "$named" = resume ] || SETTINGS+=(resume=auto)
}

stop() { echo "error: $*" >&2; exit 2; }

head_name() {
    case "$1" in
        GAvP) echo average ;;
        MPNCOV) echo newton_schulz ;;
        BCNN) echo bilinear ;;
        CBP) echo compact_bilinear ;;
        *) echo "${1,,}" ;;
    esac
}

# `in_recipe RECIPE KEY` prints the value of a key in the recipe or in the file that it extends.
in_recipe() {
    local file="$(dirname "${BASH_SOURCE[0]}")/../configs/$1.yaml" found base
    found="$(sed -n "s/^ *$2: *//p" "$file" | head -1)"
    base="$(sed -n 's/^extends: *//p' "$file")"
    [ -n "$found" ] || [ -z "$base" ] || found="$(sed -n "s/^ *$2: *//p" "$(dirname "$file")/$base" | head -1)"
    echo "$found"
}

# `learning_rates RECIPE METHOD "PARAMS" EPOCHS`: step divides by 10 at the epochs that lie before the end; log is
# logspace(first, last, epochs), one factor after each epoch.
learning_rates() {
    local epochs="${4:-$(in_recipe "$1" epochs)}" param stones="" first last
    case "$3" in *[!0-9.\ eE+-]*) stop "lr_params=${3@Q}; allowed: numbers, such as lr_params='30 45'" ;; esac
    case "$2" in
        step)
            for param in $3; do
                [ "${param%.*}" -ge "$epochs" ] || stones+="${stones:+, }${param%.*}"
            done
            if [ -n "$stones" ]; then
                SETTINGS+=(schedule.name=multistep "schedule.milestones=[$stones]" schedule.gamma=0.1)
            else
                SETTINGS+=(schedule.name=constant "schedule.milestones=[]")
            fi ;;
        log)
            read -r first last <<<"$3"
            [ -n "$last" ] || stop "lr_method=log takes two exponents of 10, such as lr_params='-1.1 -5.0'"
            SETTINGS+=("optim.lr=$(awk "BEGIN {printf \"%.8g\", 10^($first)}")" schedule.name=step
                "schedule.every=1" "schedule.milestones=[]"
                "schedule.gamma=$(awk "BEGIN {printf \"%.10g\", 10^((($last) - ($first)) / ($epochs - 1))}")") ;;
        *) stop "lr_method=$2; allowed: step, log, or schedule.name= (cosine, ...)" ;;
    esac
}

# `freeze ARCH N`: the first N children of the features. Unlike there, the statistics of their batch norms stay too.
freeze() {
    local children names index
    case "$2" in "" | *[!0-9]*) stop "freeze_layer=${2@Q}; allowed: the number of the layers to freeze" ;; esac
    case "$1" in
        *resnet*) names="conv1 bn1 - - layer1 layer2 layer3 layer4" ;;
        alexnet*) names="$(seq -s' ' 0 16)" ;;
        vgg*) case "$1" in
                vgg11) children=20 ;; vgg13) children=24 ;; vgg16) children=30 ;; vgg19) children=36 ;;
                vgg11_bn) children=28 ;; vgg13_bn) children=34 ;; vgg16_bn) children=43 ;; *) children=52 ;;
            esac
            names="$(seq -f 'features.%g' -s' ' 0 $((children - 1)))" ;;
        *) [ "$2" = 0 ] || stop "freeze_layer=$2 of $1 is not known here; model.freeze=[features.NAME, ...] is" ;;
    esac
    read -ra children <<<"${names:-}"
    local frozen="" count="$2"
    [ "$count" -lt "${#children[@]}" ] || { [ "$count" = 0 ] || SETTINGS+=("model.freeze=[features]"); return 0; }
    for ((index = 0; index < count; index++)); do
        [ "${children[index]}" = - ] || frozen+="${frozen:+, }features.${children[index]}"
    done
    SETTINGS+=("model.freeze=[$frozen]")
}

# `check_classes DATASET N`: the data says how many classes there are; a number that differs is an oversight.
check_classes() {
    local classes
    case "$1" in imagenet) classes=1000 ;; cub) classes=200 ;; cars) classes=196 ;; aircraft) classes=100 ;;
        dogs) classes=120 ;; *) classes="$2" ;; esac
    [ "$2" = "$classes" ] || stop "num_classes=$2, and $1 has $classes; leave num_classes out, the data tells it"
}

check_benchmark() {
    local meant
    case "$2" in
        ILSVRC2012* | imagenet*) meant=imagenet ;; CUB_200_2011*) meant=cub ;; fgvc-aircraft*) meant=aircraft ;;
        datasets-fgvc-cars*) meant=cars ;; Dogs*) meant=dogs ;;
        *) stop "benchmark=${2@Q} is not known; allowed: ILSVRC2012, CUB_200_2011, fgvc-aircraft, datasets-fgvc-cars," \
            "Dogs; a data set of your own: gcp train --config RECIPE data.name=folder data.root=ROOT" ;;
    esac
    [ "$meant" = "$1" ] || stop "benchmark=$2 is $meant, and this trains on $1; bash scripts/finetune_fgvc.sh $meant ROOT"
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
  lr_method=step lr_params='30 45' schedule.name=multistep schedule.milestones=[30, 45] (log: a factor each epoch)
  classifier_factor=10             optim.classifier_lr_factor=10
  freeze_layer=5                   model.freeze=[features.conv1, features.bn1, features.layer1] (and their statistics)
  description=first                a part of run.name, as arch, image_representation, lr and batchsize are
  benchmark=  num_classes=         compared with the data set, which says both
The same command continues its run where it stopped; run.name=NAME gives it another name."
