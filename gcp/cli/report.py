"""`gcp report FOLDER [--out FOLDER] [--figures FOLDER]`."""

from pathlib import Path

from gcp.cli.arguments import parse
from gcp.command import as_typed
from gcp.errors import GCPError

STUDIES = "runs/studies"  # where ablate.py puts them
FLAGS = {"--out": (1, 1), "--figures": (1, 1), "--help": (0, 0)}

USAGE = """\
Write the report of a study: the answer in sentences, the table, and figures with captions.

  gcp report FOLDER [--out FOLDER]
  gcp report FOLDER --figures FOLDER

  FOLDER             of a study, such as runs/studies/heads, or its name there; the study need not be finished

  --out FOLDER       for report.md, report.html and figures/; default: that of the study
  --figures FOLDER   write only the figures, as SVG

report.html is a single file without scripts that loads nothing from elsewhere. The same study gives the same bytes.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    first = argv[:1] if argv and not argv[0].startswith("-") else []
    arguments = parse(argv[len(first) :], FLAGS)
    if "--help" in arguments.flags or not argv:
        print(as_typed(USAGE))
        return 0
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: a report has no settings; see --help.")
    if not first:
        raise GCPError("the folder of a study comes first. Type for example\n  gcp report runs/studies/heads")
    out, figures = arguments.value("--out"), arguments.value("--figures")
    if out and figures:
        raise GCPError("--out writes a whole report and --figures its figures alone: give one of them.")
    for target in filter(None, (out, figures)):
        _check_target(Path(target).expanduser())
    from gcp.studies.report import write_figures, write_report

    folder = first[0]
    if not Path(folder).exists() and Path(STUDIES, folder).is_dir():
        folder = str(Path(STUDIES, folder))
    if figures:
        for path in write_figures(folder, figures):
            print(path)
        return 0
    page = write_report(folder, out)
    print(f"report      {page}\nmarkdown    {page.with_name('report.md')}\nfigures     {page.with_name('figures')}")
    return 0


def _check_target(path: Path) -> None:
    """Refuse a folder that cannot be, before time is spent on what should go into it."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise GCPError(f"{there} is a file, and a report is written into a folder.")
