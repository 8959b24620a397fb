"""Another head pools from a moment of the run on."""

from gcp.callbacks.hybrid.section import Hybrid
from gcp.config.plugins import PLUGINS, Plugin

PLUGINS.add(
    "hybrid",
    Plugin(
        wanted=lambda config: config.hybrid.to is not None,
        create="gcp.callbacks.hybrid.callback:SwitchHead",
        faults="gcp.callbacks.hybrid.checks:hybrid_faults",
        sections={"hybrid": Hybrid},
        order=10,
    ),
    summary="another head pools from a moment of the run on",
)
