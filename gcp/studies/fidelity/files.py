"""What a measurement leaves in its folder: fidelity.csv, fidelity.json, figures/."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gcp.engine.environment import describe_environment
from gcp.engine.files import write_json, write_text
from gcp.studies.fidelity.measure import SMALL, Row
from gcp.studies.fidelity.oracle import disagreement, upstream
from gcp.studies.fidelity.plot import draw
from gcp.studies.fidelity.spectra import SWEEPS, Setting, quartiles
from gcp.studies.fidelity.spectrum import spectrum_of
from gcp.studies.fidelity.table import to_csv


def describe(setting: Setting) -> str:
    """The spectra of given maps in a few lines."""
    title = f"{setting.source}: {len(setting.maps)} maps of {setting.channels} channels and {setting.samples} samples"
    return "\n".join([title, *(f"  {name:<24}{text}" for name, text in _spectrum(setting).items())])


def _spectrum(setting: Setting) -> dict[str, str]:
    found = spectrum_of(setting.maps)
    values = {
        "condition number": found.condition,
        "rank": found.rank,
        "effective rank": found.effective_rank,
        "smallest relative gap": found.gap,
    }
    parts = {name: quartiles(each.double().tolist()) for name, each in values.items()}
    return {name: f"{middle:.3g} (quartiles {low:.3g} to {high:.3g})" for name, (low, middle, high) in parts.items()}


def write(
    folder: Path, options: Mapping[str, Any], points: Sequence[Setting], rows: Sequence[Row], told: Sequence[str]
) -> list[str]:
    """Write everything, each file whole or not at all; returns the names of the figures.

    Args:
        folder: that exists.
        options: the command line as plain values.
        points: all settings; how far the two oracles are apart is recorded for those that both can do.
        rows: of `measure`.
        told: the tables of `safety`.
    """
    oracles = [
        {
            **{key: getattr(point, key) for key in ("source", "gap", "rank_deficit", "channels")},
            "condition": point.condition if math.isfinite(point.condition) else None,
            "largest_difference": max(
                disagreement(x, upstream(point.channels, options["seed"] + 1)) for x in point.maps
            ),
        }
        for point in points
        if point.channels <= SMALL
    ]
    about = {
        "environment": describe_environment(torch.device("cpu")),
        "settings": dict(options),
        "spectra": {point.source: _spectrum(point) for point in points if point.source not in SWEEPS},
        "float32": [text.splitlines() for text in told],
        "oracles": oracles,
    }
    write_text(folder / "fidelity.csv", to_csv(rows))
    write_json(folder / "fidelity.json", about)
    return [path.name for path in draw(rows, folder / "figures")]
