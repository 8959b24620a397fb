"""Features of a run that act around its steps, a folder each.

section.py    its keys in a configuration
checks.py     their checks beyond types
callback.py   what it does, a `gcp.callbacks.base.RunCallback`
plot.py       the picture that it leaves, if any

The folder's `__init__` registers them (`gcp.config.plugins`). No callback knows another, and neither the training loop
nor a run knows one by name: a new folder is a new feature.
"""

from importlib import import_module
from pkgutil import iter_modules

for _folder in iter_modules(__path__):
    if _folder.ispkg:
        import_module(f"{__name__}.{_folder.name}")
