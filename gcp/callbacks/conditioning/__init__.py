"""Nearest-orthogonal gradient and optimal learning rate of the layer before the covariance."""

from gcp.callbacks.conditioning.section import Conditioning
from gcp.config.plugins import PLUGINS, Plugin

PLUGINS.add(
    "conditioning",
    Plugin(
        asked_by=("optim.nog", "optim.olr"),
        create="gcp.callbacks.conditioning.callback:ConditionReduction",
        faults="gcp.callbacks.conditioning.checks:conditioning_faults",
        keys={"optim": Conditioning},
        order=30,
    ),
    summary="nearest-orthogonal gradient and optimal learning rate of the reduction",
)
