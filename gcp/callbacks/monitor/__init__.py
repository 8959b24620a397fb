"""The spectrum at the head, observed at every N-th step of a run without changing it."""

from gcp.callbacks.monitor.section import Monitor
from gcp.config.plugins import PLUGINS, Plugin

PLUGINS.add(
    "monitor",
    Plugin(
        asked_by=("monitor.spectrum",),
        create="gcp.callbacks.monitor.callback:ObserveSpectrum",
        sections={"monitor": Monitor},
        resumable=True,
        order=90,
    ),
    summary="eigenvalues and gradients at the head, in spectrum.csv",
)
