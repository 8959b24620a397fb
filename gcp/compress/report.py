"""What a decomposition did, layer by layer."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gcp.errors import GCPError


@dataclass
class LayerReport:
    """One layer. Errors are relative: root of the mean squared difference over that of what is approximated.

    Attributes:
        name: of the layer, "" for the model itself; a shared one under its first name, with `uses` names in all.
        kind: Linear, Conv2d 3x3, ...
        m, n: shape of its weight as a matrix: outputs, inputs times kernel.
        rank: "20", "16x24" for Tucker-2, "" where it stays as it is.
        parameters, parameters_after: bias included.
        flops, flops_after: of one sample, two for each multiply-add; without data of one position of the output.
        estimated: error by the spectrum: of the weight (svd), of the scaled weight (asvd), of the output on held-out
            samples (output_pca).
        measured: error of the output on held-out samples, without data of the weight as it is stored.
        seen: positions of the data that the factors are made from, None without data.
        reason: why it stays as it is, "" where it was factored.
    """

    name: str
    kind: str
    uses: int
    m: int
    n: int
    rank: str = ""
    parameters: int = 0
    parameters_after: int = 0
    flops: int = 0
    flops_after: int = 0
    estimated: float | None = None
    measured: float | None = None
    seen: int | None = None
    reason: str = ""


@dataclass
class CompressionReport:
    """All layers, and the model.

    Attributes:
        method: that chose the factors.
        rows: every Linear, Conv2d and attention.
        parameters: of the model with every layer as wide as it was, and after.
        error: relative error of the model's output on held-out samples; None without data, or where it is no
            tensor.
        gap: how much better another choice of ranks under the same bound might be: 0 where this one is known to be the
            best, else squared relative errors in sum (of a number of parameters), or weights (of an error).
    """

    method: str
    rows: list[LayerReport]
    parameters: int
    parameters_after: int
    error: float | None = None
    gap: float = 0.0

    @property
    def factored(self) -> list[LayerReport]:
        return [row for row in self.rows if row.rank and not row.reason]

    def table(self) -> str:
        """Lines to read."""
        width = max([len(row.name or "(the model)") for row in self.rows], default=5)
        head = (
            f"{'layer':<{width}}  {'kind':<12}{'m x n':>14}{'rank':>9}{'parameters':>24}{'MFLOP':>20}{'estimated':>11}"
        )
        lines = [f"{head}{'measured':>10}"]
        for row in self.rows:
            name, size = row.name or "(the model)", f"{row.m} x {row.n}" if row.m else ""
            start = f"{name:<{width}}  {row.kind:<12}{size:>14}{row.rank:>9}"
            if row.reason:
                lines.append(f"{start}{row.parameters:>24,}  {row.reason}")
                continue
            flops = f"{row.flops / 1e6:.4g} -> {row.flops_after / 1e6:.4g}"
            parameters = f"{row.parameters:,} -> {row.parameters_after:,}"
            errors = f"{_shown(row.estimated):>11}{_shown(row.measured):>10}"
            lines.append(f"{start}{parameters:>24}{flops:>20}{errors}")
        share = 100 * self.parameters_after / max(1, self.parameters)
        lines.append(f"{self.method}: {self.parameters:,} -> {self.parameters_after:,} parameters ({share:.1f} %)")
        if self.error is not None:
            lines.append(f"relative error of the model's output on held-out samples: {_shown(self.error)}")
        if self.gap:
            lines.append(f"another choice of ranks under this bound may be better by {self.gap:.3g} at most")
        if scarce := [row.name for row in self.factored if row.seen is not None and row.seen < min(row.m, row.n)]:
            lines.append(
                f"{len(scarce)} layers saw fewer positions than they have directions, first {scarce[0]}: they are "
                "fitted to these data; give more"
            )
        return "\n".join(lines)

    def write_csv(self, path: str | Path) -> None:
        """One line for each layer. Raises GCPError where the file cannot be written."""
        try:
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(LayerReport)])
                writer.writeheader()
                writer.writerows(asdict(row) for row in self.rows)
        except OSError as error:
            raise GCPError(f"cannot write {path}: {error}") from error


def _shown(error: float | None) -> str:
    return "" if error is None else f"{error:.3g}"
