"""What is observed beside the scores."""

from pydantic import Field

from gcp.config.values import Duration, Interval, Section


class Monitor(Section):
    """Eigenvalues and gradients at the head during training, in spectrum.csv; the training itself does not change."""

    spectrum: bool = Field(
        default=False,
        description="observe eigenvalues, condition number, effective rank, and what the rule changes of the gradient",
    )
    every: Interval = Field(default=Duration(50, "steps"), description="how often, beside the first step")
