"""A trained model as a program that runs without this library: torch.export, ONNX, TorchScript.

A program takes images (B, in_chans, S, S) float32, normalised, and gives logits. What only training needs is left out
of it: the autograd functions of the heads, and the flag of non-finite features. The parts and their weights are those
of the model, and so are the results: every file is read back and compared with the model before it gets its name.
"""

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gcp.command import install
from gcp.errors import GCPError
from gcp.heads import Head, RootHead, head_options
from gcp.heads.covariance import Covariance
from gcp.layers.parametrize import settled
from gcp.models.classifier import Classifier, exchange_head
from gcp.ops.covariance import noise_floor, unit_scale
from gcp.ops.numerics import compute_dtype, trace
from gcp.roots.eigen import FunctionEigen
from gcp.roots.root import Root, own_scale


class PlainHead(nn.Module):
    """(B, C, H, W) -> (B, out_features), as the head."""

    def __init__(self, head: Head):
        super().__init__()
        self.reduction, self.pooling = head.reduction, head

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(x)
        return self.pooling.complete(self.pooling.pool(x), x)


class PlainCovariance(nn.Module):
    """The triangle of the covariance, or of a root."""

    place: Tensor

    def __init__(self, head: Covariance | RootHead):
        super().__init__()
        self.reduction, self.head = head.reduction, head
        self.precision: str | None = getattr(head, "precision", None)
        d = int((2 * head.pooled_features) ** 0.5)
        rows, columns = torch.triu_indices(d, d)
        self.register_buffer("place", rows * d + columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(x)
        head = self.head
        Q = self._root(head.embed(x), head.root) if isinstance(head, RootHead) else self._covariance(x)
        return head.complete(Q.flatten(1).index_select(1, self.place).to(x.dtype), x)

    def _covariance(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x, self.precision, "float32")
        scale = unit_scale(x, dtype)
        x = x if scale is None else x / scale
        P = _covariance(_centred(x, dtype))
        P = P * (trace(P) > noise_floor(x, dtype))[:, None, None]
        assert isinstance(self.head, Covariance)
        return self.head.normalised(P if scale is None else P * scale[:, 0] * scale[:, 0])

    def _root(self, x: Tensor, root: Root) -> Tensor:
        on_samples, method, dtype = root.plan(x)
        scale = unit_scale(x, dtype) if method.rescales else None
        own = own_scale(method, scale)
        x = x if scale is None else x / scale
        if method.centred:
            Xc, floor = _centred(x, dtype), noise_floor(x, dtype)
        else:
            Xc, floor = x.flatten(2).to(dtype), torch.zeros_like(x[:, 0, 0, 0], dtype=dtype)
        if on_samples:
            Q, _ = method.sample_root(Xc, floor, *own)
        else:
            Q, _ = method.matrix_root(_covariance(Xc), floor, *own)
        return Q if scale is None or own else Q * scale[:, 0].to(dtype)


class Plain(Classifier):
    """Images (B, in_chans, H, W) float32 -> logits (B, num_classes)."""

    def __init__(self, model: Classifier):
        beside = model.token, model.token_classifier
        super().__init__(model.features, model.head, model.classifier, model.num_classes, 0.0, None, *beside)
        self.temperature = model.temperature
        self.head = plain_head(model.head)  # type: ignore[assignment]


def plain_head(head: Head) -> nn.Module:
    """The head without its autograd functions."""
    return PlainCovariance(head) if isinstance(head, Covariance | RootHead) else PlainHead(head)


def _centred(x: Tensor, dtype: torch.dtype) -> Tensor:
    X = x.flatten(2).to(dtype)
    return X - X.mean(2, keepdim=True)


def _covariance(Xc: Tensor) -> Tensor:
    return Xc @ Xc.mT / Xc.shape[2]


AGREE = 1e-4  # largest difference of a program's logits from the model's, relative to the largest logit or 1
# Heads that are made of products, sums and elementwise functions; every runtime has these.
PRODUCTS_ONLY = (
    "average",
    "max",
    "avg_max",
    "gem",
    "wide_average",
    "covariance",
    "drop_cov",
    "max_singular",
    "isice",
    "newton_schulz",
    "polar_express",
    "mtp_lyapunov",
    "bilinear",
    "compact_bilinear",
    "low_rank_bilinear",
    "cross_covariance",
)
SOLVERS_OF_PRODUCTS = ("newton_schulz", "polar_express", "mtp")  # of a head that leaves the choice of one
SUBSTITUTE = "polar_express"  # has the root of an eigendecomposition by products only
LOGARITHM = "log_euclidean"  # stays itself, with a logarithm by products
ABOUT = "about.json"

Program = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Difference:
    """How far a substituted head is from the model's own.

    `logits`: largest difference relative to the largest logit; `same`: share of images with the same class;
    `count`: images.
    """

    logits: float
    same: float
    count: int


@torch.no_grad()
def substitute(model: Classifier, images: Tensor) -> Difference | None:
    """Exchange a head that is not made of products for `polar_express`, and rounded products for full ones.

    A logarithm is taken by products too.

    Args:
        model: in evaluation mode; changed in place.
        images: (B, C, H, W) on which the difference is measured.

    Returns:
        the difference, None where the head stays.
    """
    name, given = model.arguments["head"], model.arguments
    stays = ("side", "precision", "mean_scale", "mean_unit", "learn_mean_scale")
    kept: dict[str, Any] = {key: given[key] for key in stays if key in given}
    only_products = name in PRODUCTS_ONLY or given.get("solver") in SOLVERS_OF_PRODUCTS
    if only_products and (given.get("products") or "full") == "full":
        return None
    before = model(images)
    if only_products:
        own = ("solver", "iterations", "lower", "steps", "backward")
        kept |= {key: given[key] for key in own if key in given}
        exchange_head(model, name, **kept)
    elif name == LOGARITHM:
        from gcp.roots.logarithm import LogarithmByProducts

        head = cast(RootHead, model.head)
        ridge = cast(FunctionEigen, head.root.method).ridge
        head.root = replace(head.root, method=LogarithmByProducts(ridge), side="channel")
    elif "solver" in head_options(name):
        kept.pop("precision", None)
        exchange_head(model, name, solver=SUBSTITUTE, **kept)
    else:
        kept.pop("precision", None)
        exchange_head(model, SUBSTITUTE, **kept)
    after = model(images)
    return Difference(
        float((after - before).abs().max() / before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)),
        float((after.argmax(1) == before.argmax(1)).float().mean()),
        len(images),
    )


def write_program(
    model: Classifier, images: Tensor, path: str | Path, about: dict[str, Any], batch: int | None = None
) -> float:
    """Write a program, by the ending of its name, and return its greatest relative difference from the model.

    Args:
        model: in evaluation mode, on the CPU.
        images: (B, C, H, W) float32 on which the two are compared, B >= 2.
        path: NAME.onnx, NAME.pt2 (torch.export) or NAME.ts (TorchScript).
        about: plain values that go into the file as JSON.
        batch: images that the program takes at a time; None for any number.

    Raises:
        GCPError: the model cannot be written so, or the program differs by more than AGREE.
    """
    path = Path(path)
    plain = Plain(settled(model)).eval()
    _fix_size(plain.features.body, (images.shape[2], images.shape[3]))
    example = images[: batch or 2]
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        with torch.no_grad(), _quiet():
            run = FORMATS[path.suffix](plain, example, temporary, json.dumps(about), batch)
        worst = _difference(model, run, images, batch)
        if not worst <= AGREE:
            raise GCPError(
                f"the program differs from the model by {worst:.1e} (bound {AGREE:g}); {path} is not written"
            )
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return worst


def _fix_size(body: Any, size: tuple[int, int]) -> None:
    """Resample the position embedding of a transformer of any size once: a program takes images of one size."""
    if getattr(body, "dynamic_img_size", False) and hasattr(body, "set_input_size"):
        body.set_input_size(img_size=size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages and warnings of the exporters: what they wrote is checked."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@torch.no_grad()
def _difference(model: Classifier, run: Program, images: Tensor, batch: int | None) -> float:
    """Over parts of the images of `batch`, or of one and of the rest together."""
    parts = images[: len(images) // batch * batch].split(batch) if batch else (images[:1], images[1:])
    worst = 0.0
    for part in parts:
        expected = model(part)
        error = (run(part) - expected).abs().max() / expected.abs().max().clamp_min(1.0)
        worst = max(worst, float(error)) if torch.isfinite(error) else float("inf")
    return worst


def _exported(plain: nn.Module, example: Tensor, batch: int | None) -> Any:
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    try:
        return torch.export.export(plain, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch has no class of its own for what it cannot trace
        reason = str(error).strip().splitlines()[0]
        hint = "" if batch else ". Perhaps the backbone fixes the number of images: add --batch N"
        raise GCPError(f"torch.export cannot trace the model: {reason}{hint}") from error


def _pt2(plain: nn.Module, example: Tensor, path: Path, about: str, batch: int | None) -> Program:
    torch.export.save(_exported(plain, example, batch), path, extra_files={ABOUT: about})
    return torch.export.load(path).module()


def _onnx(plain: nn.Module, example: Tensor, path: Path, about: str, batch: int | None) -> Program:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it and says so late)
    except ImportError as error:
        raise GCPError(f"ONNX needs the package {error.name}: {install('export')}") from error
    exported = _exported(plain, example, batch)
    try:
        program = torch.onnx.export(exported, (example,), input_names=["images"], output_names=["logits"], dynamo=True)
    except Exception as error:  # as above
        raise GCPError(f"the model cannot be written as ONNX: {str(error).strip().splitlines()[-1]}") from error
    assert program is not None
    program.model.metadata_props[ABOUT.partition(".")[0]] = about
    program.save(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def _torchscript(plain: nn.Module, example: Tensor, path: Path, about: str, batch: int | None) -> Program:
    traced = torch.jit.trace(plain, example, check_trace=False)
    torch.jit.save(traced, path, _extra_files={ABOUT: about})
    return torch.jit.load(path)


FORMATS: dict[str, Callable[[nn.Module, Tensor, Path, str, int | None], Program]] = {
    ".onnx": _onnx,
    ".pt2": _pt2,
    ".ts": _torchscript,
}
