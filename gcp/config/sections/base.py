"""What every section of a configuration is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Keys that belong together. Frozen; unknown keys, wrong types and inf or NaN are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def unread(self) -> dict[str, str]:
        """Keys that nothing reads beside the values of others, each with what would have it read: {"budget":
        "policy=budget"}. A configuration that is written leaves them out, so that it can be read where their defaults
        have changed.
        """
        return {}


class Options(Section):
    """A section beside whose keys the own options of a head may stand; null removes an inherited one."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The head's own options as given, such as `{"degree": 50}`."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}
