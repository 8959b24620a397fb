"""Checkpoints of others built from the lists of their keys, and what such a network computes, in plain torch functions.

Nothing of the library is used here: keys, layers, covariance, root and triangle are written out once more.
"""

import torch
import torch.nn.functional as F

BASIC = {18: (2, 2, 2, 2)}
BOTTLENECK = {50: (3, 4, 6, 3)}
VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512)


class Weights(dict):
    """A state dict that is filled layer by layer with small random numbers."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def conv(self, name, inputs, outputs, kernel, bias=False):
        scale = (2 / (inputs * kernel**2)) ** 0.5
        self[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=self.generator) * scale
        if bias:
            self[f"{name}.bias"] = torch.randn(outputs, generator=self.generator) * 0.1

    def norm(self, name, width, counter=3):
        self[f"{name}.weight"] = torch.rand(width, generator=self.generator) * 0.5 + 0.5
        self[f"{name}.bias"] = torch.randn(width, generator=self.generator) * 0.1
        self[f"{name}.running_mean"] = torch.randn(width, generator=self.generator) * 0.1
        self[f"{name}.running_var"] = torch.rand(width, generator=self.generator) + 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(counter)

    def linear(self, name, inputs, outputs):
        self[f"{name}.weight"] = torch.randn(outputs, inputs, generator=self.generator) / inputs**0.5
        self[f"{name}.bias"] = torch.randn(outputs, generator=self.generator)


def resnet_weights(depth, seed=0):
    """torchvision's names: conv1, bn1, layer1.0.conv1, ..., without fc."""
    state = Weights(seed)
    wide = 4 if depth in BOTTLENECK else 1
    state.conv("conv1", 3, 64, 7)
    state.norm("bn1", 64)
    inputs = 64
    for stage, count in enumerate((BASIC | BOTTLENECK)[depth], 1):
        width = 64 * 2 ** (stage - 1)
        for index in range(count):
            name, kernels = f"layer{stage}.{index}", (1, 3, 1) if wide == 4 else (3, 3)
            widths = [inputs, *[width] * (len(kernels) - 1), width * wide]
            for i, kernel in enumerate(kernels):
                state.conv(f"{name}.conv{i + 1}", widths[i], widths[i + 1], kernel)
                state.norm(f"{name}.bn{i + 1}", widths[i + 1])
            if index == 0 and inputs != width * wide:
                state.conv(f"{name}.downsample.0", inputs, width * wide, 1)
                state.norm(f"{name}.downsample.1", width * wide)
            inputs = width * wide
    return state


def norm(state, name, x):
    parts = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts)


def resnet_map(state, x, last_stride=2):
    """Images -> map, from the names of torchvision."""
    x = F.relu(norm(state, "bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in (1, 2, 3, 4):
        index = 0
        while f"layer{stage}.{index}.conv1.weight" in state:
            name, first = f"layer{stage}.{index}", index == 0 and stage > 1
            stride = (last_stride if stage == 4 else 2) if first else 1
            deep = f"{name}.conv3.weight" in state
            y = x
            for i in range(1, 4 if deep else 3):
                kernel = state[f"{name}.conv{i}.weight"]
                step = stride if i == (2 if deep else 1) else 1
                y = norm(state, f"{name}.bn{i}", F.conv2d(y, kernel, stride=step, padding=kernel.shape[-1] // 2))
                y = y if i == (3 if deep else 2) else F.relu(y)
            if f"{name}.downsample.0.weight" in state:
                x = norm(
                    state, f"{name}.downsample.1", F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                )
            x, index = F.relu(x + y), index + 1
    return x


def vgg_weights(seed=0):
    """VGG-11 with batch norm, as torchvision's `features`: {index}.weight, the last max pool left out."""
    state, inputs, index, plan = Weights(seed), 3, 0, []
    for step in VGG11:
        if step == "pool":
            plan.append((index, "pool"))
            index += 1
            continue
        state.conv(f"{index}", inputs, step, 3, bias=True)
        state.norm(f"{index + 1}", step)
        plan.append((index, "conv"))
        inputs, index = step, index + 3
    return state, plan


def vgg_map(state, plan, x):
    for index, kind in plan:
        if kind == "pool":
            x = F.max_pool2d(x, 2)
        else:
            x = F.conv2d(x, state[f"{index}.weight"], state[f"{index}.bias"], padding=1)
            x = F.relu(norm(state, f"{index + 1}", x))
    return x


def alexnet_weights(seed=0):
    """AlexNet with batch norm: convolutions at 0, 4, 8, 11, 14, norms at 1, 5, 9, 12, 15."""
    state = Weights(seed)
    for index, inputs, outputs, kernel in ((0, 3, 64, 11), (4, 64, 192, 5), (8, 192, 384, 3), (11, 384, 256, 3), (14, 256, 256, 3)):  # fmt: skip  # noqa: E501
        state.conv(f"{index}", inputs, outputs, kernel, bias=True)
        state.norm(f"{index + 1}", outputs)
    return state


def alexnet_map(state, x):
    for index, stride, padding, pool in ((0, 4, 2, True), (4, 1, 2, True), (8, 1, 1, False), (11, 1, 1, False), (14, 1, 1, False)):  # fmt: skip  # noqa: E501
        x = F.conv2d(x, state[f"{index}.weight"], state[f"{index}.bias"], stride=stride, padding=padding)
        x = F.relu(norm(state, f"{index + 1}", x))
        x = F.max_pool2d(x, 3, 2) if pool else x
    return x


def covariance(x):
    """(B, d, h, w) -> (B, d, d) in float64."""
    x = x.double().flatten(2)
    x = x - x.mean(2, keepdim=True)
    return x @ x.mT / x.shape[2]


def exact_root(x):
    values, vectors = torch.linalg.eigh(covariance(x))
    return vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT


def newton_schulz(x, steps=5):
    """iSQRT-COV: Y <- Y (3 - Z Y) / 2 from the covariance over its trace, times the root of the trace."""
    matrices = []
    for P in covariance(x):
        eye, trace = torch.eye(len(P), dtype=P.dtype), P.trace()
        Y, Z = P / trace, eye
        for _ in range(steps):
            T = (3 * eye - Z @ Y) / 2
            Y, Z = Y @ T, T @ Z
        matrices.append(Y * trace.sqrt())
    return torch.stack(matrices)


def triangle(Q, order):
    """The triangle of each matrix, entry by entry, row by row."""
    d = Q.shape[1]
    places = [(i, j) for i in range(d) for j in (range(i, d) if order == "upper" else range(i + 1))]
    return torch.stack([torch.stack([matrix[i, j] for i, j in places]) for matrix in Q])


def classify(state, layers, x):
    """Linear layers by name, ReLU between them."""
    for index, name in enumerate(layers):
        x = F.linear(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double())
        x = F.relu(x) if index + 1 < len(layers) else x
    return x.float()


def gcp_logits(state, features, order, root, reduction="reduce", reduction_norm="reduce_norm", layers=("fc",)):
    x = F.relu(norm(state, reduction_norm, F.conv2d(features, state[f"{reduction}.weight"])))
    return classify(state, layers, triangle(root(x), order))


def wrap(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def rename(state, table):
    """Longest-lived rule: the first prefix that fits."""
    found = {}
    for key, value in state.items():
        old, new = next(pair for pair in table.items() if key.startswith(pair[0]))
        found[new + key[len(old) :]] = value
    return found


SEQUENTIAL = {"conv1.": "0.", "bn1.": "1.", **{f"layer{stage}.": f"{stage + 3}." for stage in (1, 2, 3, 4)}}


def with_head(state, channels, d, classes, hidden=()):
    """The reduction and the classifier beside a body: reduce, reduce_norm, fc or fc0, fc1, ..."""
    state.conv("reduce", channels, d, 1)
    state.norm("reduce_norm", d)
    widths = [d * (d + 1) // 2, *hidden, classes]
    names = ["fc"] if not hidden else [f"fc{i}" for i in range(len(widths) - 1)]
    for name, inputs, outputs in zip(names, widths, widths[1:], strict=False):
        state.linear(name, inputs, outputs)
    return names


def build(layout, d=6, classes=5, order="upper", depth=18):
    """A file's contents in `layout`, and its logits as a function of the images."""
    if layout in ("torchvision", "timm", "mmpretrain"):
        state = resnet_weights(depth)
        state.linear("fc", 2048 if depth in BOTTLENECK else 512, classes)
        kept = dict(state)

        def average(images):
            return F.linear(resnet_map(kept, images).mean((2, 3)), kept["fc.weight"], kept["fc.bias"])

        if layout == "torchvision":
            return dict(state), average
        if layout == "timm":
            content = {"epoch": 4, "arch": f"resnet{depth}", "state_dict": wrap(state, "module.")}
            return content | {"state_dict_ema": dict(state), "metric": 71.5}, average
        table = {"fc.": "head.fc.", "": "backbone."}
        return {"meta": {"epoch": 9}, "state_dict": rename(state, table)}, average
    if layout == "mpncov_vgg":
        body, plan = vgg_weights()
        state = Weights(1)
        names = with_head(state, 512, d, classes, hidden=(9, 8))
        table = {"reduce.": "representation.conv_dr_block.0.", "reduce_norm.": "representation.conv_dr_block.1."}
        table |= {f"{name}.": f"classifier.{place}." for name, place in zip(names, (0, 3, 6), strict=True)}
        content = wrap(body, "features.module.") | rename(state, table)
        return {"epoch": 3, "state_dict": content}, lambda images: gcp_logits(
            state, vgg_map(body, plan, images), order, newton_schulz, layers=names
        )
    if layout == "differentiable_svd_alexnet":
        body, state = alexnet_weights(), Weights(1)
        names = with_head(state, 256, d, classes, hidden=(9, 8))
        table = {"reduce.": "representation.conv_dr_block.0.", "reduce_norm.": "representation.conv_dr_block.1."}
        table |= {f"{name}.": f"classifier.{place}." for name, place in zip(names, (0, 2, 4), strict=True)}
        content = {"epoch": 30, "arch": "alexnet", "best_prec1": 62.5, "optimizer": {"param_groups": []}}
        content["state_dict"] = wrap(body, "features.module.") | rename(state, table)
        return content, lambda images: gcp_logits(state, alexnet_map(body, images), order, exact_root, layers=names)
    body, state = resnet_weights(depth), Weights(1)
    channels = 2048 if depth in BOTTLENECK else 512
    with_head(state, channels, d, classes)
    if layout == "fast_mpn_cov":
        content = body | rename(state, {"reduce.": "layer_reduce.", "reduce_norm.": "layer_reduce_bn.", "": ""})
        return dict(content), lambda images: gcp_logits(state, resnet_map(body, images, 1), order, newton_schulz)
    if layout == "differentiable_svd":
        table = {"reduce.": "representation.conv_dr_block.0.", "reduce_norm.": "representation.conv_dr_block.1."}
        content = wrap(rename(body, SEQUENTIAL), "features.module.") | rename(state, table | {"fc.": "classifier."})
        about = {"epoch": 60, "arch": f"resnet{depth}", "best_prec1": torch.tensor(77.25), "optimizer": {"state": {}}}
        return about | {"state_dict": content}, lambda images: gcp_logits(
            state, resnet_map(body, images), order, exact_root
        )
    assert layout == "differentiable_svd_finetuned"
    table = {"reduce.": "features.8.", "reduce_norm.": "features.9.", "fc.": "classifier."}
    content = wrap(rename(body, SEQUENTIAL), "features.") | rename(state, table)
    return {"epoch": 100, "arch": "mpncovresnet50", "state_dict": content}, lambda images: gcp_logits(
        state, resnet_map(body, images, 1), order, exact_root
    )


GCP = ("differentiable_svd", "differentiable_svd_alexnet", "differentiable_svd_finetuned", "fast_mpn_cov", "mpncov_vgg")
FIRST_ORDER = ("torchvision", "timm", "mmpretrain")
BACKBONES = {"differentiable_svd_alexnet": "alexnet_bn", "mpncov_vgg": "torchvision/vgg11_bn"}  # of the others resnet18
