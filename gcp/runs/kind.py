"""What a training command trains: how its configurations look, and what a run of them is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp.engine.distributed import Group
    from gcp.engine.folder import RunFolder
    from gcp.runs.run import Run
    from gcp.runs.stages import StagedRun


class Kind:
    """Classifiers. A subclass is another kind; imports wait until they are needed, so that --help is quick.

    Attributes:
        command: that trains it.
        example: a configuration to begin with.
    """

    command = "train"
    example = "digits/resnet"

    @property
    def schema(self) -> type[Any]:
        """The class of a configuration."""
        from gcp.config import Config

        return Config

    def check(self, config: Any) -> None:
        """Refuse what cannot be begun, before there is a folder."""
        from gcp.runs.pretrained import check_pretrained

        check_pretrained(config)

    def stem(self, config: Any) -> str:
        """The name of a run folder up to its number."""
        from gcp.runs import build

        return build.run_stem(config)

    def build(self, config: Any, folder: "RunFolder", group: "Group") -> "Run[Any] | StagedRun":
        """The run in a folder."""
        from gcp.runs import session, stages

        if config.stages:
            return stages.StagedRun(config, folder, group)
        return session.Session(config, folder, group=group)


CLASSIFIER = Kind()
