"""Our heads beside the code of their authors, run on the same features.

    python scripts/compare_authors.py CHECKOUT [CHECKOUT ...]

CHECKOUT is a clone of a published repository; every file of src/representation/ that one of our heads stands for is
loaded from there and run, nothing of it is part of this project. Known: DifferentiableSVD (KingJamesSong),
fast-MPN-COV (jiangtaoxie), iSICE (csiro-robotics). Printed are the relative differences (Frobenius norm) of output and
gradient with respect to the features: `as written`, with its casts to float32, and `in float64`, with all of them
taken out, where a difference that is left is one of method.
"""

import argparse
import importlib.util
import subprocess
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


@dataclass(frozen=True)
class Pair:
    """A published class (its file has the same name) with what it is made with, and our head."""

    published: str
    head: str
    arguments: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    remark: str = ""


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


def load(path: Path, name: str) -> type[nn.Module]:
    """The class `name` of a file, which is executed as a module by itself."""
    spec = importlib.util.spec_from_file_location(f"published_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


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


def compare(folder: Path, pair: Pair, x: Tensor) -> list[float]:
    """Differences of output and gradient, as written and in float64."""
    found = []
    for in_float64 in (False, True):
        features = x if in_float64 else x.float()
        head = create_head(pair.head, x.shape[1], **pair.options).to(x.device)
        ours = evaluate(head, features)
        with published_code(x.device, in_float64):
            theirs = evaluate(
                load(folder / f"{pair.published}.py", pair.published)(input_dim=x.shape[1], **pair.arguments).to(
                    x.device
                ),
                features,
            )
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
        folder = checkout / FOLDER
        pairs = [pair for pair in PAIRS if (folder / f"{pair.published}.py").is_file()]
        if not pairs:
            names = ", ".join(pair.published for pair in PAIRS)
            raise GCPError(
                f"{folder} has none of the files {names} (.py). Clone a repository first, for example\n"
                "  git clone https://github.com/KingJamesSong/DifferentiableSVD"
            )
        print(f"\n{checkout.name}, {commit_of(checkout)}")
        print(f"{'theirs':<14}{'ours':<16}{'as written: output, gradient':<32}in float64: output, gradient")
        for pair in pairs:
            try:
                found = compare(folder, pair, x)
            except Exception as error:  # code for a torch of years ago
                print(f"{pair.published:<14}{pair.head:<16}does not run here: {type(error).__name__}: {error}")
                continue
            shown = [f"{value:.1e}" for value in found]
            row = f"{pair.published:<14}{pair.head:<16}{', '.join(shown[:2]):<32}{', '.join(shown[2:]):<20}"
            print((row + pair.remark).rstrip())
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
