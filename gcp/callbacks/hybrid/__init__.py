"""Another head pools from a moment of the run on."""

from gcp.callbacks.hybrid.section import Hybrid
from gcp.config.plugins import PLUGINS, Plugin

PLUGINS.add(
    "hybrid",
    Plugin(
        asked_by=("hybrid.to",),
        create="gcp.callbacks.hybrid.callback:SwitchHead",
        faults="gcp.callbacks.hybrid.checks:hybrid_faults",
        sections={"hybrid": Hybrid},
        changes_model=True,
        order=10,
    ),
    summary="another head pools from a moment of the run on",
)
