"""What the spectrum at the head does while a run trains: observed at one step out of many, without a trace in it."""

from gcp.engine.monitor.monitor import Monitor
from gcp.engine.monitor.remarks import remarks
from gcp.engine.monitor.table import SpectrumTable

__all__ = ["Monitor", "SpectrumTable", "remarks"]
