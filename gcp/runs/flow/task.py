"""Normalising flows as a task, see `gcp.runs.task`."""

import re
from typing import TYPE_CHECKING, Any

from gcp.runs.task import Task

if TYPE_CHECKING:
    from gcp.engine.distributed import Group
    from gcp.engine.folder import RunFolder
    from gcp.runs.flow.run import GlowRun


def _schema() -> type[Any]:
    from gcp.config import FlowConfig

    return FlowConfig


def _check(config: Any) -> None:
    """A flow begins with no weights of others."""


def _stem(config: Any) -> str:
    return re.sub(r"[^\w.+=,-]", "_", f"{config.data.name}-glow-{config.flow.form}")


def _build(config: Any, folder: "RunFolder", group: "Group") -> "GlowRun":
    from gcp.runs.flow.run import GlowRun

    return GlowRun(config, folder, group=group)


FLOW = Task("train-glow", "glow/digits", _schema, _check, _stem, _build)
