"""What an edit did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """One dimension before and after.

    Attributes:
        dimension: its name.
        before, after: channels.
        error: |change of the model's output| / |output| in evaluation mode, on images that fitted nothing; None
            without images.
        kept: the old channels that stay, in their order; empty where axes were rotated.
        parameters_before, parameters_after: of the model.
    """

    dimension: str
    before: int
    after: int
    error: float | None
    kept: tuple[int, ...]
    parameters_before: int
    parameters_after: int
