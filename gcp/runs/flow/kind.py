"""Flows as a kind of run, see `gcp.runs.kind`."""

import re
from typing import TYPE_CHECKING, Any

from gcp.runs.kind import Kind

if TYPE_CHECKING:
    from gcp.engine.distributed import Group
    from gcp.engine.folder import RunFolder
    from gcp.runs.flow.run import GlowRun


class Flows(Kind):
    """Normalising flows."""

    command = "train-glow"
    example = "glow/digits"

    @property
    def schema(self) -> type[Any]:
        from gcp.config import FlowConfig

        return FlowConfig

    def check(self, config: Any) -> None:
        """A flow begins with no weights of others."""

    def stem(self, config: Any) -> str:
        return re.sub(r"[^\w.+=,-]", "_", f"{config.data.name}-glow-{config.flow.form}")

    def build(self, config: Any, folder: "RunFolder", group: "Group") -> "GlowRun":
        from gcp.runs.flow import run

        return run.GlowRun(config, folder, group=group)


FLOWS = Flows()
