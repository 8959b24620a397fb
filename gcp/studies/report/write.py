"""The report from above to below, and its files: report.md, report.html and figures/."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gcp.drawing.figure import standalone
from gcp.engine.folder import write_text
from gcp.errors import GCPError
from gcp.studies.report.answer import answer, headline
from gcp.studies.report.charts import accuracy, cost, differences
from gcp.studies.report.curves import training
from gcp.studies.report.fidelity import fidelity
from gcp.studies.report.render import Block, Bullets, Code, Heading, Picture, Text, to_html, to_markdown
from gcp.studies.report.results import StudyResults, open_study
from gcp.studies.report.spectra import spectra
from gcp.studies.report.tables import failures, lead, published, results, setting
from gcp.studies.report.tuning import tuning


def compose(study: StudyResults) -> list[Block]:
    """The blocks of the report."""
    return list(_blocks(study))


def _blocks(study: StudyResults) -> Iterator[Block]:
    yield Heading(study.title, 1)
    yield Text(lead(study))
    yield Heading("The answer")
    yield Bullets(answer(study))
    yield Heading("Results")
    yield results(study)
    if table := published(study):
        yield table
    yield from _section("Tuning", tuning(study))
    yield Heading("How it was run")
    yield setting(study)
    if command := study.text("command"):
        yield Text("To run it again, or to continue it where it stopped:")
        yield Code(command)
    yield from _section("Accuracy", [accuracy(study), differences(study)])
    yield from _section("Training", training(study))
    yield from _section("Time and memory", [cost(study)])
    yield from _section("Gradient against the exact one", fidelity(study))
    yield from _section("Spectrum of the covariance", spectra(study))
    yield from _section("Failed runs", [failures(study)])
    if notes := _notes(study):
        yield Heading("Notes")
        yield Bullets(notes)


def _section(title: str, blocks: list) -> Iterator[Block]:
    if any(blocks):
        yield Heading(title)
        yield from (block for block in blocks if block)


def _notes(study: StudyResults) -> list[str]:
    """What the study says about itself, and what its folder lacks."""
    given = study.about.get("notes")
    notes = [str(note) for note in given] if isinstance(given, list) else [str(given)] if given else []
    lacking = [
        ("study.yaml", not study.about, "title, command and reference are not known"),
        ("cells.csv", not study.cells, "single runs and curves are not shown"),
        ("table.csv", not study.tested, "means are taken from cells.csv, and no difference is tested"),
    ]
    return [*notes, *(f"{name} is not there: {effect}." for name, missing, effect in lacking if missing)]


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
