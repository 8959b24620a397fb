"""What a section is, that of a head, and the kinds of values that keys take, each with its bounds and JSON schema.

A span of training is written the way people think of it and turned into optimizer steps in one place:

| written | means |
|---|---|
| `10`, `"10 epochs"` | passes over the training split; a bare number means epochs |
| `"500 steps"` | optimizer steps |
| `"30 %"` | part of the whole run |
| `"10 minutes"` | wall-clock time, for checkpoints only |
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from gcp.errors import OptionError, nearest


class Section(BaseModel):
    """Keys that belong together. Frozen; unknown keys, wrong types and inf or NaN are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    ASKED_BY: ClassVar[tuple[str, str] | None] = None

    def unread(self) -> dict[str, str]:
        """Keys that nothing reads beside the values of others, each with what would have it read: {"budget":
        "policy=budget"}. A configuration that is written leaves them out, so that it can be read where their defaults
        have changed.

        ASKED_BY: a key, and what it may be set to; where it is null, nothing reads the other keys of the section.
        """
        if self.ASKED_BY is None:
            return {}
        asked_by, value = self.ASKED_BY
        if getattr(self, asked_by) is None:
            return {key: f"{asked_by}={value}" for key in type(self).model_fields if key != asked_by}
        return self.unread_beside()

    def unread_beside(self) -> dict[str, str]:
        """The same of a section that is asked for."""
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


_FORM = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>%|[A-Za-z]*)")
_UNITS = {
    "": "epochs",
    "epoch": "epochs",
    "epochs": "epochs",
    "step": "steps",
    "steps": "steps",
    "%": "percent",
    "percent": "percent",
    "minute": "minutes",
    "minutes": "minutes",
}
_WORDS = {"epochs": "epochs", "steps": "steps", "percent": "%", "minutes": "minutes"}

FORMS = '10 (epochs), "500 steps", "2 epochs", "30 %"'
FORMS_WITH_MINUTES = FORMS + ', "10 minutes"'


@dataclass(frozen=True)
class Duration:
    """`amount` of `unit`: "epochs", "steps", "percent" of the run, or "minutes"."""

    amount: float
    unit: str = "epochs"

    @classmethod
    def parse(cls, value: object, minutes: bool = False) -> "Duration":
        """A duration from a number (epochs) or a text such as `"500 steps"`.

        Raises `OptionError` on anything else; `"10 minutes"` is accepted only with `minutes=True`.
        """
        if isinstance(value, Duration):
            value = str(value)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise OptionError(_refusal(value, minutes))
        if not isinstance(value, str):
            duration = cls(value, "epochs")
        else:
            match = _FORM.fullmatch(value.strip())
            if match is None or match["unit"].lower() not in _UNITS:
                raise OptionError(_refusal(value, minutes))
            number = float(match["amount"])
            duration = cls(int(number) if number.is_integer() else number, _UNITS[match["unit"].lower()])
        duration._check(value, minutes)
        return duration

    def _check(self, value: object, minutes: bool) -> None:
        whole = self.unit != "steps" or float(self.amount).is_integer()
        bounded = self.unit != "percent" or self.amount <= 100
        if not (math.isfinite(self.amount) and self.amount >= 0 and whole and bounded):
            raise OptionError(_refusal(value, minutes))
        if self.unit == "minutes" and not minutes:
            raise OptionError(_refusal(value, minutes))

    def __str__(self) -> str:
        amount = int(self.amount) if float(self.amount).is_integer() else format(Decimal(repr(self.amount)), "f")
        return f"{amount} {_WORDS[self.unit]}"

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of a duration in minutes. Raises `OptionError` on any other unit."""
        if self.unit != "minutes":
            raise OptionError(f"a duration of {str(self)!r} has no length in seconds")
        return 60.0 * self.amount

    def to_steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """Optimizer steps, rounded to the nearest; whatever is longer than nothing is at least one step.

        `steps_per_epoch` counts optimizer steps (batches over accumulation), `total_steps` those of the
        whole run. Raises `OptionError` on a duration in minutes, which has no length in steps.
        """
        if self.unit == "minutes":
            raise OptionError(f"a duration of {str(self)!r} has no length in steps")
        unit = {"epochs": steps_per_epoch, "steps": 1, "percent": total_steps / 100}[self.unit]
        steps = math.floor(self.amount * unit + 0.5)
        return max(steps, 1) if self.amount > 0 else 0


def shorter_than_run(duration: Duration, epochs: int) -> bool:
    """False if the duration certainly fills a run of that many epochs; steps depend on the data."""
    return duration.amount < {"epochs": epochs, "percent": 100}.get(duration.unit, float("inf"))


def nearest_duration(value: object, minutes: bool = False) -> str | None:
    """The valid spelling closest to a misspelt one ("5 epocs" -> "5 epochs"), or None."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    words = ["epochs", "steps", *(["minutes"] if minutes else [])]
    word = nearest(match[2], words) if match and match[2].lower() not in _UNITS else None
    return f"{match[1]} {word}" if match and word else None


def _refusal(value: object, minutes: bool) -> str:
    return f"not a duration: {value!r}; allowed: {FORMS_WITH_MINUTES if minutes else FORMS}"


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


def _listed(value: object) -> object:
    """A number alone stands for a list of it."""
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _one_or_many(number: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [number, {"type": "array", "items": number, "minItems": 1}]})


Numbers = Annotated[
    tuple[float, ...], Field(strict=False, min_length=1), BeforeValidator(_listed), _one_or_many({"type": "number"})
]
Deviations = Annotated[
    tuple[Positive, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_listed),
    _one_or_many({"type": "number", "exclusiveMinimum": 0}),
]
Betas = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(strict=False, min_length=1)]
OptimizerOptions = Annotated[
    dict[Text, bool | int | float | Text],
    Field(json_schema_extra={"$comment": "arguments of the optimizer, such as {rho: 0.9, amsgrad: true}"}),
]
LoggerOptions = Annotated[
    dict[Text, dict[Text, Any]],
    Field(json_schema_extra={"$comment": "mappings by the name of the logger, such as {wandb: {mode: offline}}"}),
]
Names = Annotated[tuple[Text, ...], Field(strict=False)]
Spans = Annotated[tuple[Span, ...], Field(strict=False)]
Widths = Annotated[
    dict[Text, Count],
    Field(json_schema_extra={"$comment": "names and whole numbers >= 1, such as {features.layer1: 12, head: 16}"}),
]


def _named(value: object) -> object:
    """A name alone stands for a mapping with that name, and the name may be left out."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "whitening"} | value if isinstance(value, dict) else value


# The keys are checked where the layers are known: gcp.models.norms.
Norm = Annotated[
    dict[Text, Any] | None,
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "$comment": "whitening, or {name: whitening, layers: ..., groups: ..., group_size: ..., eps: ..., "
            "precision: ..., solver: ..., rule: ..., and their options}, or null",
            "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}],
        }
    ),
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

Side = Annotated[
    Literal["auto", "channel", "sample"],
    Field(description="matrix that is decomposed: channels or samples; auto: the smaller"),
]
Form = Annotated[
    Literal["folded", "published"],
    Field(description="backward: closed form, or the published factor with its instability"),
]
Precision = Annotated[
    Literal["float32", "float64"] | None,
    Field(description="precision inside the head; null: float64 for eigen-heads, float32 for iterative ones"),
]


class HeadSection(Options):
    """The pooling head. The head's own options stand beside these keys; null removes an inherited one."""

    name: Text = Field(default="svd_pade", description="pooling head, see --list heads")
    dim: Count | None = Field(
        default=64,
        description="channels after the reduction, d: the head has d(d+1)/2 outputs; null: no reduction",
    )
    side: Side = "auto"
    form: Form = "folded"
    precision: Precision = None
    reduction: Text = Field(
        default="conv",
        description="how channels are reduced to dim: conv is 1x1 convolution, batch norm, ReLU; orthogonal is the "
        "same with orthonormal rows of the convolution",
    )
    spectral_norm: SpectralNorm = Field(
        default=None,
        description="divide the weight of the reduction's convolution by its spectral norm, as model.classifier_norm",
    )
    mean: Literal["none", "concat"] = Field(
        default="none",
        description="concat: the average of the features beside the output, at the same size; measured once at the "
        "start of training",
    )
    output_scale: Literal["published", "measured"] = Field(
        default="published",
        description="measured: a constant from the first batches gives the output the size that average pooling has "
        "there, so that one learning rate serves all heads; published: none",
    )
    reduction_init: Literal["random", "pca"] = Field(
        default="random",
        description="start of the reduction; pca: principal directions of the first batches",
    )
