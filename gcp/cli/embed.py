"""`gcp embed MODEL FOLDER [OUT] [--score] [--gallery FOLDER] [key=value ...]`: descriptors of images."""

import logging
import shlex
from typing import TYPE_CHECKING

from gcp.cli.arguments import numbers, parse, wanted
from gcp.cli.train import check_overrides
from gcp.command import as_typed
from gcp.errors import GCPError

if TYPE_CHECKING:
    from gcp.evaluation.embedding import Embedding
    from gcp.runs.scored_model import ScoredModel

FLAGS = {"--score": (0, 0), "--gallery": (1, 1), "--neighbours": (1, 1), "--json": (1, 1)}
ALLOWED = ("data.", "evaluate.", "run.")
EXAMPLE = "gcp embed runs/NAME photos --score --gallery others"

USAGE = """\
Descriptors of all images in a folder: what the head gives, before the classifier.

  gcp embed MODEL FOLDER [OUT] [--score [--gallery FOLDER]] [key=value ...]

  MODEL    what evaluate takes: a checkpoint, a run folder or its name under runs/, a file of another project
  FOLDER   images, also in folders below it
  OUT      embeddings.npz unless given: descriptors (N, D) float32, files, and of FOLDER/CLASS/* labels and classes;
           or a file that ends in .parquet with the columns file, class, descriptor

  --score           how well the descriptors of FOLDER/CLASS/* retrieve images of their class by cosine: k nearest
                    neighbours, recall@1, 5 and 10, mean average precision
  --gallery FOLDER  compare them with the images of this folder, not with each other
  --neighbours K    k of the nearest neighbours (5)
  --json FILE       the scores

Images that cannot be read are left out and listed; the exit code is then 3. Settings of data.*, evaluate.*, run.*.

Example:
  gcp embed runs/mine photos photos.npz --score
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    count = next((number for number, word in enumerate(argv) if word.startswith("-") or "=" in word), len(argv))
    if count not in (2, 3):
        raise GCPError(wanted("embed", "OUT", argv[:count]))
    arguments = parse(argv[count:], FLAGS, {"OUT": f"gcp embed {shlex.join(argv[:2])} {{}}", "--gallery": EXAMPLE})
    check_overrides(arguments.overrides, ALLOWED, "embedding")
    model, folder, out = (*argv[:count], "embeddings.npz")[:3]
    scored = "--score" in arguments.flags
    if not scored and (extra := [flag for flag in FLAGS if flag in arguments.flags]):
        raise GCPError(f"{extra[0]} is of the scores; add --score")
    neighbours = numbers(arguments.flags, "--neighbours", [5], 1)[0]
    from gcp.evaluation.embedding import check_form
    from gcp.evaluation.files import check_file

    check_form(out)
    check_file("OUT", out)
    check_file("--json", arguments.value("--json"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from gcp.evaluation.embedding import embed, write
    from gcp.runs.open_model import open_model
    from gcp.runs.processes import process_group

    with process_group() as group:
        opened = open_model(model, arguments.overrides, group, scored=False)
        found = embed(opened, folder)
        write(found, out)
        print(f"{'images':<12}{len(found.files)} in {folder}, {found.descriptors.shape[1]:,} numbers each")
        print(f"{'descriptors':<12}{out}")
        if scored:
            _score(opened, found, folder, arguments.value("--gallery"), neighbours, arguments.value("--json"))
    return 3 if found.unreadable else 0


def _score(
    model: "ScoredModel", found: "Embedding", folder: str, gallery: str | None, neighbours: int, file: str | None
) -> None:
    from dataclasses import asdict

    from gcp.errors import DataError
    from gcp.evaluation.embedding import embed, labelled
    from gcp.evaluation.files import write_values
    from gcp.evaluation.retrieval import retrieve

    labels = labelled(found, folder)
    if gallery is None:
        result = retrieve(found.descriptors, labels, neighbours=neighbours)
    else:
        import torch

        other = embed(model, gallery)
        theirs = labelled(other, gallery)
        known = {name: place for place, name in enumerate(found.classes)}
        if not known.keys() & set(other.classes):
            raise DataError(f"{gallery} has none of the classes of {folder}")
        of_query = torch.tensor([known.get(name, len(known) + place) for place, name in enumerate(other.classes)])
        result = retrieve(found.descriptors, labels, other.descriptors, of_query[theirs], neighbours)
    print(result.lines())
    if file is not None:
        write_values(file, asdict(result))
