"""The configuration: sections, keys, defaults, and what each key means.

The one source of the help text, of the JSON schema for editors, of the checks and of what is allowed in
a message. Types are strict: a number is never made from a text, nor a switch from a number.
"""

from typing import Any

from pydantic import Field

from gcp.config.sections import (
    Checkpoint,
    Data,
    Evaluate,
    Head,
    Hybrid,
    Model,
    Optim,
    Run,
    Schedule,
    Section,
    Train,
)

STAGES = "[{model: {freeze: [features]}, train: {epochs: 5}}, {train: {epochs: 10}}]"  # for messages and help


class Config(Section):
    """One run, all of it. `stages` are the values that each stage of it puts over the rest, see `gcp.config.stages`."""

    run: Run = Field(default_factory=Run)
    data: Data = Field(default_factory=Data)
    model: Model = Field(default_factory=Model)
    head: Head = Field(default_factory=Head)
    hybrid: Hybrid = Field(default_factory=Hybrid)
    optim: Optim = Field(default_factory=Optim)
    schedule: Schedule = Field(default_factory=Schedule)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    stages: tuple[dict[str, dict[str, Any]], ...] = Field(
        default=(),
        description="stages of the run, one after the other from the weights of the one before: a list of mappings of "
        f"sections that stand over the rest of the file, such as {STAGES}; []: one stage",
    )

    def plain(self) -> dict[str, Any]:
        """Plain Python values by section, durations as text, and `stages` where there are any;
        `gcp.config.from_dict` reads it back.
        """
        values = self.model_dump(mode="json", exclude={"stages"})
        for name in ("head", "hybrid"):
            section = getattr(self, name)
            values[name] = {key: values[name][key] for key in type(section).model_fields} | section.options
        return values | ({"stages": [dict(stage) for stage in self.stages]} if self.stages else {})


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
