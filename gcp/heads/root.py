"""Heads that take the matrix square root of the covariance: one for each rule and solver that names its head."""

from collections.abc import Mapping
from typing import Any

from gcp.gradients import RULES
from gcp.heads.base import HEADS, HeadKind, RootHead
from gcp.registry import Entry
from gcp.roots.root import Root
from gcp.solvers import SOLVERS, create_root

NAMED = ("rule", "solver", "side", "form", "precision")


class CovarianceRoot(RootHead):
    """triangle(sqrt(covariance(reduce(x)))); further arguments are those of `gcp.covariance_sqrt`."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any):
        super().__init__(in_channels, dim, reduction)
        self.root = root_of_options(options)

    @classmethod
    def check(cls, **options: Any) -> None:
        root_of_options(options)


def root_of_options(options: Mapping[str, Any]) -> Root:
    """The root with the arguments of `gcp.solvers.create_root` and, beside them, the options of its rule or solver."""
    named = {key: options[key] for key in NAMED if key in options}
    return create_root(**named, options={key: value for key, value in options.items() if key not in NAMED})


def _register(entry: Entry[Any], takes: tuple[str, ...], **fixed: str) -> None:
    if entry.obj.head is not None:
        kind = HeadKind(CovarianceRoot, takes, entry.obj, fixed)
        HEADS.add(entry.obj.head, kind, summary=entry.summary, paper=entry.paper)


def register_head_of_rule(rule: str) -> None:
    """Register the pooling head that a rule names as its `head`.

    Done here for the rules of `gcp.gradients`; to be called for a rule of one's own.
    """
    _register(RULES[rule], ("side", "form", "precision"), rule=rule)


for rule in RULES:
    register_head_of_rule(rule)
for solver in SOLVERS.list():
    _register(solver, ("side", "precision"), solver=str(solver))
