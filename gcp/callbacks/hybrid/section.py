"""The head that a run switches to, and when."""

from typing import ClassVar, Literal

from pydantic import Field

from gcp.config.values import Form, Interval, Options, Positive, Precision, Side, Text


class Hybrid(Options):
    """A switch to another head during the run. The own options of that head stand beside these keys."""

    ASKED_BY: ClassVar[tuple[str, str]] = ("to", "HEAD")  # a head that was forgotten costs a whole run
    HEAD: ClassVar[str] = "to"
    NO_ARGUMENTS: ClassVar[tuple[str, ...]] = ("to", "at", "condition_below")

    to: Text | None = Field(
        default=None,
        description="head to switch to, one with the same outputs and tensors as head.name; null: no switch",
    )
    at: Interval | Literal["last_decay"] | None = Field(
        default=None,
        description="when: a duration from the start, or last_decay, the last one of schedule multistep or step",
    )
    condition_below: Positive | None = Field(
        default=None,
        description="when, in place of at: after the first epoch at whose end the condition number of the covariance "
        "(median over validation images, null eigenvalues apart) is below this",
    )
    side: Side = "auto"
    form: Form = "folded"
    precision: Precision = None
