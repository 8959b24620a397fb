"""Keys of a flow that must fit each other and the data set."""

from collections.abc import Iterator

from gcp.config.faults import Fault, wrong
from gcp.config.schema import FlowConfig


def flow_faults(config: FlowConfig) -> Iterator[Fault]:
    """Levels that the sides of the images do not allow."""
    import gcp.data

    flow, data = config.flow, config.data
    if data.in_chans not in (1, 3):
        yield wrong("data.in_chans", data.in_chans, "1 (grey) or 3 (colour), a flow draws its images")
    if data.name not in gcp.data.DATASETS:
        return
    side = data.image_size if data.image_size != "auto" else gcp.data.DATASETS[data.name].obj.image_size
    most = (side & -side).bit_length() - 1  # how often the side can be halved
    if most == 0:
        yield wrong("data.image_size", side, "an even number, a flow halves the sides in every level")
    elif flow.levels > most:
        allowed = f"a whole number <= {most}, images of {side} x {side} pixels are halved in every level"
        yield wrong("flow.levels", flow.levels, allowed, needs=("data.image_size", "data.name"))
