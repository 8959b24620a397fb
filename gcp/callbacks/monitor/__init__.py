"""What the spectrum at the head does while a run trains: observed at one step out of many, without a trace in it."""

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
