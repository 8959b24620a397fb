"""What every section of a configuration is."""

from typing import Any, ClassVar

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
    """A section that names a head, beside whose keys the own options of that head may stand; null removes an inherited
    one.

    HEAD: key with the name of the head. NO_ARGUMENTS: keys that are no arguments of the head.
    """

    model_config = ConfigDict(extra="allow")
    HEAD: ClassVar[str] = "name"
    NO_ARGUMENTS: ClassVar[tuple[str, ...]] = ("name",)

    @property
    def head(self) -> str | None:
        """Name of the head, None where there is none."""
        return getattr(self, self.HEAD)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `gcp.heads.create_head`, name and channels aside."""
        keys = (key for key in type(self).model_fields if key not in self.NO_ARGUMENTS)
        return {key: getattr(self, key) for key in keys} | self.options

    @property
    def options(self) -> dict[str, Any]:
        """The head's own options as given, such as `{"degree": 50}`."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}
