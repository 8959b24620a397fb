"""Backward rules of the eigen-methods, one per file. Every module here is imported: to add a rule is to add a file."""

from gcp.gradients.base import RULES, Rule, create_rule, rule_options, spectral_weight
from gcp.registry import import_all

import_all(__name__, __path__)

__all__ = ["RULES", "Rule", "create_rule", "rule_options", "spectral_weight"]
