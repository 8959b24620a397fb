"""One data set, or family of data sets, per file.

Every module of this folder is imported here, so a new data set is one new file that adds itself to DATASETS. One on
disk is a function `listing(root) -> Listing` and a line `DATASETS.add(name, on_disk(listing, ...))`; `nabirds` is the
shortest.
"""

from gcp.registry import import_all

import_all(__name__, __path__)
