"""Widths that change during a run."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gcp.config.values import Below1, Count, Duration, Interval, Names, Section, Span, Text

OF_SPECTRUM = ("signal", "shrink_below", "grow_above")


class Evolve(Section):
    """Layers that grow and shrink during the run."""

    ASKED_BY: ClassVar[tuple[str, str]] = ("every", "DURATION")

    every: Interval | None = Field(
        default=None, description="how often widths are reconsidered; null: they stay as they are"
    )
    policy: Literal["spectrum", "budget"] = Field(
        default="spectrum",
        description="what decides; spectrum: each width by the singular values that it uses; budget: all of them "
        "together, so that the model comes to cost what evolve.budget says",
    )
    where: Names = Field(
        default=(),
        description="widths that may change: features, head, classifier, a part of them such as features.layer3, names "
        "of dimensions as evolution.csv has them, or shell patterns; []: all",
    )
    start: Span = Field(
        default=Duration(10, "percent"),
        description="no width changes before: an untrained network has the singular values of its initialisation",
    )
    stop: Span = Field(
        default=Duration(70, "percent"), description="no width changes after; the rest trains what has come out"
    )
    min_width: Count = Field(
        default=8, description="no width shrinks below, but for heads of an attention: one may be left"
    )
    max_width: Count | None = Field(
        default=None, description="no width grows above, but for the number of heads; null: no bound"
    )
    factor: Annotated[float, Field(gt=1)] = Field(
        default=1.5, description="a width is multiplied or divided by at most this in one edit"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        default=2, description="a width that has grown does not shrink, nor the other way, at that many further times"
    )
    signal: Literal["activations", "weights", "residual"] = Field(
        default="activations",
        description="singular values of what, for policy spectrum; residual: of Id + B A for the hidden width of a "
        "block x + B f(A x), of the weights elsewhere",
    )
    shrink_below: Below1 = Field(
        default=0.1,
        description="policy spectrum: singular values below this part of the largest are negligible, and a width "
        "shrinks by their number",
    )
    grow_above: Below1 = Field(
        default=0.15, description="policy spectrum: a width grows whose smallest singular value is above this part"
    )
    budget: Text | None = Field(
        default=None,
        description="policy budget: what the model may cost when the widths stop, such as 20k parameters, 5M flops or "
        "2 MiB (weights and maps of one image), or 25 % parameters of the model at the start",
    )
    images: Annotated[int, Field(ge=4)] = Field(
        default=256,
        description="training images, the same in the whole run, that widths are decided on; three of four refit, "
        "every fourth measures the error",
    )

    def unread_beside(self) -> dict[str, str]:
        """The keys of the other policy."""
        if self.policy == "spectrum":
            return {"budget": "policy=budget"}
        return dict.fromkeys(OF_SPECTRUM, "policy=spectrum")
