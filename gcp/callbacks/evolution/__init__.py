"""Widths of layers change during the run."""

from gcp.callbacks.evolution.section import Evolve
from gcp.config.plugins import PLUGINS, Plugin

PLUGINS.add(
    "evolution",
    Plugin(
        asked_by=("evolve.every",),
        create="gcp.callbacks.evolution.callback:EvolveWidths",
        faults="gcp.callbacks.evolution.checks:evolve_faults",
        sections={"evolve": Evolve},
        changes_model=True,
        order=20,
    ),
    summary="layers grow and shrink during the run",
)
