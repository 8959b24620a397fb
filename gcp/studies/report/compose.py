"""The report from above to below."""

from collections.abc import Iterator

from gcp.studies.report.accuracy import accuracy, differences
from gcp.studies.report.answer import answer
from gcp.studies.report.blocks import Block, Bullets, Code, Heading, Text
from gcp.studies.report.cost import cost
from gcp.studies.report.fidelity import fidelity
from gcp.studies.report.setting import lead, setting
from gcp.studies.report.spectra import spectra
from gcp.studies.report.study import Study
from gcp.studies.report.tables import failures, published, results
from gcp.studies.report.training import training


def compose(study: Study) -> list[Block]:
    """The blocks of the report."""
    return list(_blocks(study))


def _blocks(study: Study) -> Iterator[Block]:
    yield Heading(study.title, 1)
    yield Text(lead(study))
    yield Heading("The answer")
    yield Bullets(answer(study))
    yield Heading("Results")
    yield results(study)
    if table := published(study):
        yield table
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


def _notes(study: Study) -> list[str]:
    """What the study says about itself, and what its folder lacks."""
    given = study.about.get("notes")
    notes = [str(note) for note in given] if isinstance(given, list) else [str(given)] if given else []
    lacking = [
        ("study.yaml", not study.about, "title, command and reference are not known"),
        ("cells.csv", not study.cells, "single runs and curves are not shown"),
        ("table.csv", not study.tested, "means are taken from cells.csv, and no difference is tested"),
    ]
    return [*notes, *(f"{name} is not there: {effect}." for name, missing, effect in lacking if missing)]
