"""The kinds of values that keys take, each with its bounds and its JSON schema."""

from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from gcp.config.duration import FORMS, FORMS_WITH_MINUTES, Duration


def _longer_than_nothing(duration: Duration) -> Duration:
    if duration.amount <= 0:
        raise ValueError("must be longer than nothing")
    return duration


def _form(comment: str, minimum: str) -> WithJsonSchema:
    # `$comment` is ignored by validators; the messages and the help text show it as what is allowed.
    forms = [{"type": "number", minimum: 0}, {"type": "string"}]
    return WithJsonSchema({"$comment": comment, "anyOf": forms})


_parse = PlainValidator(Duration.parse)
_parse_clock = PlainValidator(partial(Duration.parse, minutes=True))
_text = PlainSerializer(str, return_type=str)
_positive = AfterValidator(_longer_than_nothing)

Span = Annotated[Duration, _parse, _text, _form(FORMS, "minimum")]
Interval = Annotated[Duration, _parse, _positive, _text, _form(FORMS, "exclusiveMinimum")]
ClockInterval = Annotated[Duration, _parse_clock, _positive, _text, _form(FORMS_WITH_MINUTES, "exclusiveMinimum")]

Count = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
SpectralNorm = Literal["power", "exact", "bound"] | None
# A YAML list arrives as a list and is kept as a tuple; the items stay strict.
Sizes = Annotated[tuple[Count, ...], Field(strict=False)]
Names = Annotated[tuple[Text, ...], Field(strict=False)]
Spans = Annotated[tuple[Span, ...], Field(strict=False)]
Widths = Annotated[
    dict[Text, Count],
    Field(json_schema_extra={"$comment": "names and whole numbers >= 1, such as {features.layer1: 12, head: 16}"}),
]

# No separator and no leading dot: the run folder lies directly in run.dir and is not hidden.
FolderName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_+=-][A-Za-z0-9_+=,.-]*$",
        json_schema_extra={"$comment": "a folder name of letters, digits and _ + - = , . (not first)"},
    ),
]
Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", json_schema_extra={"$comment": "auto, cpu, cuda, or cuda:N"}),
]
