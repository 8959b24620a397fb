"""One page of the documentation for each head, docs/heads/NAME.md, and its picture.

Left, the weight that the backward pass gives to a pair of eigenvalues a >= b, over the weight 1 / (sqrt a + sqrt b) of
the exact root, against x = b/a: beside the largest eigenvalue, and between two small ones (3e-4 of the largest). Rules
are evaluated by `gcp.spectral_weight`, iterations by the gradient of `gcp.matrix_sqrt` in the eigenbasis. Right, what
the head makes of the spectrum. Both for 64 eigenvalues from 1 to 1e-4, spread evenly in their logarithm, of which two
are replaced by the pair.

The texts are those of scripts/heads.yaml, the registry of heads, and the table of docs/heads.md.
"""

import argparse
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import benchmarking
import torch
import yaml
from torch import Tensor

import gcp
from gcp.drawing.figure import LIGHT, write_figure
from gcp.heads import HEADS, RootHead
from gcp.heads.covariance import Covariance
from gcp.heads.create import COMMON
from gcp.heads.second_moment import SecondMoment

ROOT = Path(__file__).parents[1]
COUNT, LEAST = 64, 1e-4  # eigenvalues of a spectrum, and the smallest of them
SMALL = 3e-4  # the larger of two small eigenvalues
ROWS = (0.01, 0.5, 0.9, 0.99, 0.999, 0.999999)  # of the table of a page
MATRIX_FREE = ("isice",)  # of covariance heads: its output has other eigenvectors
EVERY = "Every head has [`mean`, `output_scale` and `reduction_init`](../heads.md#keeping-the-mean) as well."
COMMON_HELP = {
    "side": "decompose the d x d covariance (`channel`), the M x M matrix of positions (`sample`), or the smaller",
    "form": "`folded`, the closed form of the gradient, or `published`, the factor in the working precision",
    "precision": "`float32` or `float64`; null is the head's own",
}


def weights(name: str, x: Tensor, largest: float = 1.0) -> Tensor | None:
    """The weight of the pair (largest, x largest) over the exact one, (n,) for x (n,) float64; None of a head whose
    gradient is neither of a rule nor of an iteration to the root.
    """
    fixed = HEADS[name].obj.fixed
    if not fixed.keys() & {"rule", "solver"}:
        return None
    spectra = torch.logspace(0, torch.tensor(LEAST).log10().item(), COUNT, dtype=torch.float64).repeat(len(x), 1)
    first = int((spectra[0] - largest).abs().argmin())
    spectra[:, first], spectra[:, first + 1] = largest, largest * x
    if "rule" in fixed:
        W = gcp.spectral_weight(spectra, fixed["rule"])[:, first, first + 1]
    else:
        P = torch.diag_embed(spectra).requires_grad_()
        G = torch.zeros_like(P)
        G[:, first, first + 1] = G[:, first + 1, first] = 1
        Q = gcp.matrix_sqrt(P, solver=fixed["solver"], precision="float64")
        W = torch.autograd.grad(Q, P, G)[0][:, first, first + 1]
    return W * (largest**0.5 + (largest * x).sqrt())


def function(name: str, eigenvalues: Tensor) -> Tensor | None:
    """What the head makes of eigenvalues (n,) float64 of a covariance, over what it makes of the largest one; None of
    a head that is no function of the spectrum. Of a logarithm what it makes of zero is subtracted.
    """
    head = gcp.create_head(name, len(eigenvalues))
    P = torch.diag(eigenvalues)[None]
    if isinstance(head, RootHead):
        values = head.root.of_matrix(P)[0].diagonal()
        if name == "log_euclidean":
            values = values - head.root.of_matrix(P * 0)[0].diagonal()
    elif isinstance(head, Covariance) and name not in MATRIX_FREE:
        values = head.normalised(P)[0].diagonal()
    else:
        return None
    return values.detach() / values[0].detach()


def draw(name: str, path: Path) -> bool:
    """Write the picture of a head, unless it is no function of the spectrum. Returns whether there is one."""
    spectrum = torch.logspace(0, torch.tensor(LEAST).log10().item(), COUNT, dtype=torch.float64)
    x = torch.special.expit(torch.linspace(-9.2, 16, 85, dtype=torch.float64))  # 1e-4 to 1 - 1e-7, dense at both ends
    matrix = "second moment" if issubclass(HEADS[name].obj.head, SecondMoment) else "covariance"
    made, pairs = function(name, spectrum), {"beside the largest": weights(name, x)}
    if made is None:
        return False
    if pairs["beside the largest"] is not None:
        pairs["between two small ones"] = weights(name, x, SMALL)

    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2) if len(pairs) == 2 else (None, figure.subplots())
        if left is not None:
            _paint_weights(left, x, {label: ratio for label, ratio in pairs.items() if ratio is not None})
        if not torch.allclose(made, spectrum, rtol=1e-3):
            right.plot(spectrum, spectrum, color=LIGHT["mute"], label="the matrix itself")
        right.plot(spectrum, spectrum.sqrt(), color=LIGHT["ink"], label="root", linestyle=(0, (4, 2)))
        right.plot(spectrum, made, color=LIGHT["red"], label=name)
        right.set(
            xscale="log", yscale="log", xlabel=f"eigenvalue of the {matrix}", title="what it makes of the spectrum"
        )
        right.set_xticks([1e-4, 1e-2, 1], ["1e-4", "1e-2", "1"])
        right.set_yticks([1e-4, 1e-2, 1], ["1e-4", "1e-2", "1"])
        right.minorticks_off()
        right.legend(loc="lower right")

    alt = f"{name}: " + ("weight of pairs of eigenvalues over the exact one; " if len(pairs) == 2 else "")
    write_figure(path, 2.6, paint, f"{alt}eigenvalues of the output against those of the {matrix}")
    return True


def _paint_weights(axes: Any, x: Tensor, pairs: dict[str, Tensor]) -> None:
    axes.axhline(1, color=LIGHT["mute"], linewidth=0.8)
    for (label, ratio), colour in zip(pairs.items(), ("red", "blue"), strict=True):
        axes.plot(x, ratio, color=LIGHT[colour], label=label, linestyle="-" if colour == "red" else (0, (4, 2)))
    axes.set(xscale="logit", ylim=(-0.1, 2.3), xlabel="x = b/a", title="gradient over the exact one")
    axes.set_xticks([1e-3, 0.5, 0.999, 1 - 1e-6], ["0.001", "0.5", "0.999", "1-1e-6"])
    axes.minorticks_off()
    axes.legend(loc="lower left" if max(float(ratio.max()) for ratio in pairs.values()) > 1.5 else "upper left")


@cache
def table() -> dict[str, dict[str, str]]:
    """The rows of the table of all heads in docs/heads.md, by head and column."""
    text = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\|.*\|$", text.split("## All heads\n", 1)[1].split("\n\n## ")[0].split("\n### ")[0], re.M)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {re.sub(r"\W*\[?`(\w+)`.*", r"\1", row[0]): dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


@cache
def texts() -> dict[str, dict[str, Any]]:
    """Those of scripts/heads.yaml."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "scripts" / "heads.yaml").read_text(encoding="utf-8"))
    return found


def page(name: str, picture: bool) -> str:
    """The page of a head in Markdown; `picture`: whether it has one."""
    entry, told, row = HEADS[name], texts()[name], table()[name]
    paper = row["paper"] or entry.paper
    facts = {"output": row["forward"], "gradient": row["gradient"], "keeps the mean?": row["keeps the mean?"]}
    facts["time over `svd_pade`, 7x7 / 14x14"] = row["time"]
    facts["time over `average`, 7x7 / 14x14"] = row["over average"]
    if paper:
        facts["paper"] = f"[{paper}]({told['link']})" if "link" in told else paper
    parts = [
        "<!-- written by scripts/draw_heads.py: change scripts/heads.yaml or the head, not this page -->",
        f"# {name}",
        f"{entry.summary[0].upper()}{entry.summary[1:]}.",
        f"```text\n{told['formula']}\n```",
    ]
    if picture:
        parts.append(f"![{_alt(name)}]({name}.svg)")
        if (numbers := _numbers(name)) is not None:
            parts.append(numbers)
    parts += [
        f"## When to use it\n\n{told['use'].strip()}",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in facts.items()),
        f"## Use\n\n{_example(name)}",
    ]
    if options := _options(name):
        parts.append(f"## Options\n\n{options}\n\n{EVERY}")
    parts.append(
        "Next: " + ", ".join(f"[`{other}`]({other}.md)" for other in told["like"]) + "; [all heads](../heads.md)."
    )
    return "\n\n".join(parts) + "\n"


def _alt(name: str) -> str:
    return (
        f"What {name} makes of a spectrum" if weights(name, torch.ones(1)) is None else f"Gradient and output of {name}"
    )


def _numbers(name: str) -> str | None:
    ratios = weights(name, torch.tensor(ROWS, dtype=torch.float64))
    if ratios is None:
        return None
    cells = [f"{value:.4g}" for value in ratios.tolist()]
    heads, rule = " | ".join(f"{x:g}" if x < 0.9999 else "1 - 1e-6" for x in ROWS), "|".join(["---"] * (len(ROWS) + 1))
    return (
        f"| x = b/a | {heads} |\n|{rule}|\n| gradient over the exact one | {' | '.join(cells)} |\n\n"
        "For a pair of eigenvalues a >= b, a the largest of a spectrum of 64 from 1 to 1e-4."
    )


def _example(name: str) -> str:
    head = gcp.create_head(name, 64, 16)
    return (
        "```python\nimport gcp, torch\n\n"
        f'head = gcp.create_head("{name}", in_channels=64, dim=16)\n'
        f"head(torch.rand(2, 64, 7, 7)).shape  # (2, {head.out_features})\n```\n\n"
        f"In a run: `gcp train --config digits/resnet head.name={name}`."
    )


def _options(name: str) -> str:
    kind = HEADS[name].obj
    rows = [(field.name, field.default, field.metadata["help"]) for field in fields(kind.options)]
    rows += [(key, COMMON[key], COMMON_HELP[key]) for key in kind.takes]
    if not rows:
        return ""
    lines = [f"| `{key}` | {'null' if value is None else value} | {_cell(text)} |" for key, value, text in rows]
    return "| option | default | meaning |\n|---|---|---|\n" + "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("docs/benchmarks.md", "[benchmarks](../benchmarks.md)")


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/heads"), help="folder (docs/heads)")
    parser.add_argument("--heads", nargs="+", default=[str(entry) for entry in gcp.list_heads()], help="(all)")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.heads:
        picture = draw(name, arguments.out / f"{name}.svg")
        (arguments.out / f"{name}.md").write_text(page(name, picture), encoding="utf-8")
        print(arguments.out / f"{name}.md", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
