"""Remarks on an observed row, each with a setting that helps."""

import torch

from gcp.callbacks.monitor.observation import Numbers
from gcp.heads import Head
from gcp.ops.eigenvalues import CONDITION_LIMITS, SHARE_LIMIT
from gcp.ops.numerics import PRECISIONS
from gcp.roots.eigen import PublishedEigen
from gcp.roots.root import Root


def remarks(head: Head, row: Numbers) -> dict[str, str]:
    """Lines for the log by what they are about, of heads with a root; empty where there is nothing to say."""
    root = getattr(head, "root", None)
    if not isinstance(root, Root):
        return {}
    precision = root.precision or root.default_precision
    found = {
        "samples": _samples(row),
        "condition": _condition(row["condition"], precision),
        "share": _share(row["rule_share"]),
        "gap": _gap(row["smallest_gap"], precision) if isinstance(root.method, PublishedEigen) else None,
    }
    return {subject: text for subject, text in found.items() if text}


def _samples(row: Numbers) -> str | None:
    samples, channels = row["samples"], row["channels"]
    if samples is None or channels is None or samples >= channels:
        return None
    return (
        f"{samples} samples for {channels} channels: at most {samples - 1} of {channels} eigenvalues are non-zero; for "
        f"full rank set head.dim={max(1, int(samples) - 1)} or less, or enlarge the map (data.image_size, "
        "model.last_stride=1)"
    )


def _condition(condition: float | None, precision: str) -> str | None:
    if condition is None or condition < CONDITION_LIMITS[precision]:
        return None
    advice = "head.precision=float64" if precision == "float32" else "a smaller head.dim"
    limit = CONDITION_LIMITS[precision]
    return (
        f"condition number {condition:.1e} of the covariance: from {limit:g} on {precision} leaves an "
        f"error of 0.1 % or more in the gradient; set {advice}"
    )


def _share(share: float | None) -> str | None:
    if share is None or share <= SHARE_LIMIT:
        return None
    return (
        f"the gradient behind the head differs from the exact one by {100 * share:.3g} % of its norm, by rule, "
        "iterations or precision; head.name=svd_exact has the exact one"
    )


def _gap(gap: float | None, precision: str) -> str | None:
    if gap is None or gap > 16 * torch.finfo(PRECISIONS[precision]).eps:  # noise of the decomposition, with room
        return None
    return (
        f"smallest gap between eigenvalues {gap:.1e} of the largest one: that is rounding in {precision}, and "
        "head.form=published divides by it; head.form=folded does not"
    )
