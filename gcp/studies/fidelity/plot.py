"""The figures of a measurement: errors over each sweep, and on features that were captured."""

from collections.abc import Sequence
from pathlib import Path

from gcp.drawing import figure
from gcp.drawing.picture import save
from gcp.drawing.svg import standalone
from gcp.engine.files import write_text
from gcp.studies.fidelity.measure import Row, shown
from gcp.studies.fidelity.sources import draw_sources
from gcp.studies.fidelity.spectra import SWEEPS
from gcp.studies.fidelity.sweep import VALUES, sweep
from gcp.studies.fidelity.table import AXES


def draw(rows: Sequence[Row], folder: Path | str) -> list[Path]:
    """Write the figures that the rows allow, each as SVG and PNG, and return their paths."""
    chosen, folder = shown(rows), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in AXES:
        of_source = [row for row in chosen if row["source"] == source]
        for channels in sorted({row["channels"] for row in of_source}):
            own = [row for row in of_source if row["channels"] == channels]
            if len({row[AXES[source][0]] for row in own}) > 1:
                for value in VALUES:
                    stem = f"fidelity_{source}_{channels}" + ("" if value == "error" else f"_{value}")
                    paths += _draw_sweep(own, source, value, folder / stem)
    others = [row for row in chosen if row["source"] not in SWEEPS]
    if others:
        features = draw_sources(others)
        paths += _paths(folder / "fidelity_features")
        for path in paths[-2:]:
            save(features, path)
    return paths


def _paths(stem: Path) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]


def _draw_sweep(rows: Sequence[Row], source: str, value: str, stem: Path) -> list[Path]:
    first, svg, png = rows[0], *_paths(stem)
    note = (
        f"d = {first['channels']}; medians and quartiles of {first['draws']} draws, exact gradient in {first['oracle']}"
    )
    alt = f"{VALUES[value].label} by {AXES[source][1]}, a panel for each head"
    text = figure.draw(stem.name, *sweep(rows, source, VALUES[value], note), png)
    write_text(svg, standalone(text, alt))
    return [svg, png]
