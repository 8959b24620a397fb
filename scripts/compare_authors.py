"""Our heads beside the code of their authors, run on the same features.

    python scripts/compare_authors.py CHECKOUT [CHECKOUT ...]

CHECKOUT is a clone of a published repository; every file there that one of our heads stands for is loaded and run,
nothing of it is part of this project. Known: DifferentiableSVD (KingJamesSong), fast-MPN-COV (jiangtaoxie), iSICE
(csiro-robotics), DropCov (mingzeG). Printed are the relative differences (Frobenius norm) of output and gradient with
respect to the features: `as written`, with its casts to float32, and `in float64`, with all of them taken out, where a
difference that is left is one of method. DropCov is a whole network: all before and after its head is taken out, and
both sides drop the channels that the same random numbers pick, each at its own rate.
"""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import benchmarking
import torch
from torch import Tensor, nn

from gcp.errors import GCPError
from gcp.heads import create_head
from gcp.studies.fidelity.features import relu_features

FOLDER = Path("src/representation")
NETWORKS = Path("CNNs/models")  # a package, which imports its siblings and the package beside it


@dataclass(frozen=True)
class Pair:
    """A published class (its file has the same name) with what it is made with, and our head."""

    published: str
    head: str
    arguments: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    remark: str = ""
    folder: Path = FOLDER
    training: bool = True

    @property
    def network(self) -> bool:
        """Whether the class is a whole network, of which only the head is compared."""
        return self.folder != FOLDER

    def file(self, checkout: Path) -> Path:
        """Where a clone has it."""
        return checkout / self.folder / f"{self.published}.py"


PAIRS = (
    Pair("GAvP", "average"),
    Pair("BCNN", "bilinear"),
    Pair("MPNCOV", "newton_schulz", {"iterNum": 5}, {"precision": "float64"}),
    Pair("SVD_Original", "svd_original"),
    Pair("SVD_Pade", "svd_pade"),
    Pair("SVD_Taylor", "svd_taylor"),
    Pair("SVD_Newton", "svd_newton", {"iterNum": 10}),
    Pair("SVD_Trunc", "svd_trunc"),
    Pair("SVD_TopN", "svd_topn", {}, {"drop": 50}, "theirs drops to machine epsilon, whose root explodes"),
    Pair("SVD_PI", "svd_pi", {}, {}, "theirs passes no gradient"),
    Pair("SEB", "seb"),
    Pair(
        "SICE",
        "isice",
        {"iterNum": 5, "sparsity_val": 0.01, "sice_lrate": 1.0},
        {"precision": "float64"},
        "their ridge is drawn at random",
    ),
    Pair("ResNet_ACD", "drop_cov", folder=NETWORKS, remark="in training"),
    Pair("ResNet_ACD", "drop_cov", folder=NETWORKS, remark="in evaluation", training=False),
)


@contextmanager
def published_code(device: torch.device, in_float64: bool) -> Iterator[None]:
    """Their code runs on the CPU as on a GPU, and without its casts to float32 where asked for."""
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if device.type == "cpu":
            stack.enter_context(patch.object(Tensor, "cuda", lambda self, *args, **kwargs: self))
        if in_float64:
            stack.enter_context(patch.object(Tensor, "float", Tensor.double))
            torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def load(path: Path, name: str) -> Any:
    """What a file calls `name`; the file is executed as a module by itself."""
    spec = importlib.util.spec_from_file_location(f"published_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def load_network(folder: Path, name: str) -> Any:
    """What module `name` of the package `folder` calls `name`; no module of the clone stays imported."""
    packages = {entry.name for entry in folder.parent.iterdir() if entry.is_dir()}

    def of_the_clone() -> list[str]:
        return [module for module in sys.modules if module.partition(".")[0] in packages]

    before = {module: sys.modules.pop(module) for module in of_the_clone()}
    try:
        with patch.object(sys, "path", [str(folder.parent), *sys.path]):
            return getattr(importlib.import_module(f"{folder.name}.{name}"), name)
    finally:
        for module in of_the_clone():
            del sys.modules[module]
        sys.modules.update(before)


def published_head(checkout: Path, pair: Pair, ours: nn.Module, channels: int) -> nn.Module:
    """Their head; that of a network is what is left of it without its other layers, with the weights of ours."""
    if not pair.network:
        return load(pair.file(checkout), pair.published)(input_dim=channels, **pair.arguments)
    network = load_network(checkout / pair.folder, pair.published)(_Block, [1, 1, 1, 1], num_classes=1)
    for name, _ in list(network.named_children()):
        if name not in ("eca_layer", "cov"):
            setattr(network, name, nn.Identity())
    with torch.no_grad():
        ours.importance.copy_(
            torch.tensor([[[-3.0, -10.0, 2.0]]])
        )  # drops half the channels, where [0, 1, 0] drops none
        network.eca_layer.conv.weight.copy_(ours.importance)
    return network


class _Block(nn.Identity):
    """A block that the network is built of, before it is taken out."""

    expansion = 1


@contextmanager
def same_channels(pair: Pair, x: Tensor) -> Iterator[None]:
    """Channel dropout of ours and of theirs compares the same uniform numbers (B, d) with its rate."""
    if not pair.network:
        yield
        return
    uniform = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(x)

    def dropout(module: nn.Dropout2d, x: Tensor) -> Tensor:
        return x * ((uniform >= module.p) / (1 - module.p))[:, :, None, None]

    with patch.object(torch, "rand", lambda *args, **kwargs: uniform), patch.object(nn.Dropout2d, "forward", dropout):
        yield


def evaluate(head: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output (B, k) and gradient with respect to x for a fixed random upstream gradient, in float64."""
    x = x.clone().requires_grad_()
    out = head(x).flatten(1)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.device, out.dtype)
    return out.detach().double(), torch.autograd.grad(out, x, upstream)[0].double()


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Difference relative to ours, which is never zero."""
    return float((ours - theirs).norm() / ours.norm())


def compare(checkout: Path, pair: Pair, x: Tensor) -> list[float]:
    """Differences of output and gradient, as written and in float64."""
    found = []
    for in_float64 in (False, True):
        features = x if in_float64 else x.float()
        head = create_head(pair.head, x.shape[1], **pair.options).to(features).train(pair.training)
        with published_code(x.device, in_float64):
            published = published_head(checkout, pair, head, x.shape[1]).to(x.device).train(pair.training)
            with same_channels(pair, features):
                theirs = evaluate(published, features)
        with same_channels(pair, features):
            ours = evaluate(head, features)
        found += [relative(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    return found


def commit_of(checkout: Path) -> str:
    """The commit of a clone."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "of no commit"


def main(argv: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT", help="a clone of a published repository")
    parser.add_argument("--device", type=benchmarking.device_of, default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--dim", type=benchmarking.whole(2), default=64, help="channels (64); SVD_TopN drops 50")
    parser.add_argument("--map", type=benchmarking.whole(2), default=12, help="height and width (12)")
    arguments = parser.parse_args(argv)
    x = relu_features(2, arguments.dim, arguments.map, torch.float32, 0).double().to(arguments.device)
    print(f"{arguments.dim} channels on {arguments.map}x{arguments.map} maps, {benchmarking.machine(arguments.device)}")
    for checkout in arguments.checkouts:
        pairs = [pair for pair in PAIRS if pair.file(checkout).is_file()]
        if not pairs:
            names = ", ".join(dict.fromkeys(str(pair.file(Path())) for pair in PAIRS))
            raise GCPError(
                f"{checkout} has none of the files {names}. Clone a repository first, for example\n"
                "  git clone https://github.com/KingJamesSong/DifferentiableSVD"
            )
        print(f"\n{checkout.name}, {commit_of(checkout)}")
        print(f"{'theirs':<14}{'ours':<16}{'as written: output, gradient':<32}in float64: output, gradient")
        for pair in pairs:
            try:
                found = compare(checkout, pair, x)
            except Exception as error:  # code for a torch of years ago
                print(f"{pair.published:<14}{pair.head:<16}does not run here: {type(error).__name__}: {error}")
                continue
            shown = [f"{value:.1e}" for value in found]
            row = f"{pair.published:<14}{pair.head:<16}{', '.join(shown[:2]):<32}{', '.join(shown[2:]):<20}"
            print((row + pair.remark).rstrip())
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
