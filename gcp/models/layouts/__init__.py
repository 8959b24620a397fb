"""How files of others name their weights. Every module of this folder that adds a Layout to LAYOUTS is one layout."""

from gcp.models.layouts.layout import LAYOUTS, Layout, best_spelling, recognise, rename, restore
from gcp.registry import import_all

import_all(__name__, __path__)

__all__ = ["LAYOUTS", "Layout", "best_spelling", "recognise", "rename", "restore"]
