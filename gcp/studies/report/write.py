"""The files of a report: report.md, report.html and figures/."""

from collections.abc import Sequence
from pathlib import Path

from gcp.drawing.svg import standalone
from gcp.engine.files import write_text
from gcp.errors import GCPError
from gcp.studies.report.answer import headline
from gcp.studies.report.blocks import Block, Picture
from gcp.studies.report.compose import compose
from gcp.studies.report.html import to_html
from gcp.studies.report.markdown import to_markdown
from gcp.studies.report.study import open_study

FIGURES = "figures"


def write_report(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the report of a study, whatever of it is there; the same folder gives the same bytes.

    Args:
        folder: of the study.
        out: folder for report.md, report.html and figures/, made where it is missing; default: that of the study.

    Returns:
        the path of report.html.

    Raises:
        DataError: the folder holds no study, or a file of it cannot be read.
        GCPError: `out` cannot be made.
    """
    study = open_study(folder)
    out = Path(out).expanduser() if out else study.folder
    blocks = compose(study)
    _write_figures(blocks, out / FIGURES)
    write_text(out / "report.md", to_markdown(blocks, FIGURES))
    page = out / "report.html"
    write_text(page, to_html(blocks, study.title, headline(study)))
    return page


def write_figures(folder: Path | str, out: Path | str) -> list[Path]:
    """Write the figures alone, as SVG under the names that every report gives them. Raises as `write_report`."""
    return _write_figures(compose(open_study(folder)), Path(out).expanduser())


def _write_figures(blocks: Sequence[Block], folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCPError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    written = []
    for block in blocks:
        if isinstance(block, Picture):
            path = folder / f"{block.name}.svg"
            write_text(path, standalone(block.svg, block.alt))
            written.append(path)
    return written
