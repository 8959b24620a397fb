"""What is compared: a head that takes a root, with one of its backwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gcp.errors import OptionError, UnknownNameError
from gcp.gradients import RULES
from gcp.heads import HEADS, Head, create_head, head_options, list_heads
from gcp.heads.root import CovarianceRoot
from gcp.solvers import FORMS


def select_heads(patterns: Iterable[str]) -> list[str]:
    """Heads that match any of the shell patterns, each once, in the order of the patterns.

    Raises:
        UnknownNameError: a pattern that matches nothing, with the nearest name.
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        found = list_heads(pattern)
        if not found:
            raise UnknownNameError("head", pattern, HEADS)
        names.update((str(entry), None) for entry in found)
    return list(names)


def root_heads() -> list[str]:
    """Heads whose output is the matrix root of the covariance: those that one reference serves."""
    return [str(entry) for entry in list_heads() if issubclass(entry.obj.head, CovarianceRoot)]


BRANCH = "seb"  # a root with a forward of its own
BACKWARDS = ("lyapunov", "iterations")


@dataclass(frozen=True)
class ComparedHead:
    """A head and its backward.

    `form` is folded or published for a rule, lyapunov or iterations for the heads that offer both, and empty for the
    others, which have one backward.
    """

    head: str
    form: str = ""

    def __str__(self) -> str:
        return f"{self.head} {self.form}".removesuffix(" folded").strip()

    @property
    def published(self) -> bool:
        """Whether it computes as published, which is on the channel side."""
        return self.form == "published"

    def sides(self, wanted: Sequence[str]) -> list[str]:
        """Those of the wanted sides that it has."""
        return [side for side in wanted if side == "channel" or not self.published]

    def build(self, channels: int, side: str, precision: str) -> Head:
        """The head without a reduction."""
        own: dict[str, Any] = {"form": self.form} if self.form in FORMS else {}
        if self.form in BACKWARDS:
            own = {"backward": self.form}
        return create_head(self.head, channels, side=side, precision=precision, **own)


def eligible() -> list[str]:
    """Heads with a root."""
    return [*root_heads(), BRANCH]


def heads_of_rules(patterns: Iterable[str]) -> list[str]:
    """Heads of the rules that match any of the shell patterns, such as `svd_pi` of `power_iteration`.

    Raises:
        UnknownNameError: a pattern that matches nothing, with the nearest name.
    """
    heads = {}
    for name in root_heads():
        fixed = HEADS[name].obj.fixed
        if "rule" in fixed:
            heads[fixed["rule"]] = name
    found: dict[str, None] = {}
    for pattern in patterns:
        rules = RULES.list(pattern) or [RULES[pattern]]
        found.update((heads[str(rule)], None) for rule in rules)
    return list(found)


def methods(heads: Sequence[str] | None = None, forms: Sequence[str] = FORMS) -> list[ComparedHead]:
    """Heads by name or shell pattern, each with all its backwards; `forms` chooses among those of the rules.

    Raises:
        UnknownNameError: a pattern that matches nothing.
        OptionError: a head without a root, or a form that it does not have.
    """
    chosen = []
    for name in eligible() if heads is None else _with_root(heads):
        chosen += [ComparedHead(name, form) for form in _backwards(name, forms)]
    if not chosen:
        raise OptionError(f"{', '.join(heads or [])} has no form {', '.join(forms)}; leave --forms out.")
    return chosen


def _with_root(patterns: Sequence[str]) -> list[str]:
    """Heads that a pattern names must have a root; those that it only matches are left out where they have none."""
    allowed = eligible()
    for pattern in patterns:
        found = select_heads([pattern])
        if not set(found) & set(allowed):
            raise OptionError(
                f"{', '.join(found)}: not the root of the covariance, which the exact gradients here are of; allowed: "
                f"{', '.join(allowed)}. For a head with a rule of its own monitor.spectrum=true has its rule_share."
            )
    return [name for name in select_heads(patterns) if name in allowed]


def _backwards(name: str, forms: Sequence[str]) -> Sequence[str]:
    if "backward" in head_options(name):
        return BACKWARDS
    if "form" not in HEADS[name].obj.takes:
        return ("",)
    own = ("folded",) if name == "svd_exact" else FORMS
    return [form for form in own if form in forms]
