"""The flow that the settings of a run describe: in training, and when its weights are loaded."""

from collections.abc import Mapping
from typing import Any

from gcp.flow.glow import Glow, Shape

SETTINGS = ("levels", "steps", "width", "form", "coupling", "dropout")


def create_flow(shape: Shape, settings: Mapping[str, Any]) -> Glow:
    """The freshly initialised flow of images (C, H, W) that the section `flow` of a configuration, in plain values,
    describes; keys that say nothing of the flow itself are passed over.

    Raises:
        KeyError: a setting is missing; OptionError, UnknownNameError: as of `Glow`.
    """
    options = {"spectrum": settings["spectrum"]} if settings["form"] == "svd" else {}
    return Glow(shape, **{key: settings[key] for key in SETTINGS}, **options)
