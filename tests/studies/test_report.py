"""The report of a study: the numbers of its tables, pages that stand alone, figures that draw what the tables say."""

import csv
import re
import shutil
from statistics import mean

import pytest
import yaml
from html_page import Page, rows_of
from study_folder import EVIL, add_fidelity, build

from gcp.drawing.figure import COLOURS
from gcp.errors import DataError
from gcp.studies.report import write_figures, write_report
from gcp.studies.report.answer import answer
from gcp.studies.report.results import open_study

GRID = {"head.name": ["svd_exact", EVIL, "svd_pi", "average"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of four variants, three seeds, with everything that a folder can hold; (folder, scores)."""
    folder = tmp_path_factory.mktemp("a study ü") / "heads"
    published = {"svd_pi": {"value": 77.33, "what": f"top-1 {EVIL}", "source": "a poster"}}
    scores = build(folder, GRID, 3, 6, {"svd_pi": [1], "average": [0, 1, 2]}, published=published, notes=[EVIL])
    add_fidelity(folder)
    return folder, scores


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """The one whole report of these tests."""
    out = tmp_path_factory.mktemp("report") / "out"
    page = write_report(study[0], out)
    assert page == out / "report.html"
    return out


@pytest.fixture(scope="module")
def page(report):
    return Page((report / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def drawn(monkeypatch):
    """Figures are kept, not rendered, which takes most of the time: the list of them."""
    from matplotlib.figure import Figure

    figures = []

    def keep(self, file, **_):
        figures.append(self)
        file.write('<svg width="1"></svg>')

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def small(folder, **more):
    return build(folder, {"head.name": ["svd_exact", "svd_pade", "average"]}, 3, 4, **more)


def test_the_table_holds_the_numbers_of_the_file(study, page):
    folder, scores = study
    with open(folder / "table.csv", newline="") as file:
        table = list(csv.DictReader(file))
    shown = {row[0]: row for row in reversed(rows_of(page))}  # the first table counts
    for row in table:
        cells = shown[row["variant"]]
        if not row["mean"]:
            assert cells[1] == "0 (3 failed)" and "failed" in cells and cells[2] == "-"
            continue
        assert cells[2] == f"{float(row['mean']):.2f} ± {float(row['std']):.2f}"
        assert float(cells[2].split()[0]) == pytest.approx(mean(scores[row["variant"]]), abs=0.006)
        assert cells[1] == ("5" if row["failed"] == "0" else "2 (1 failed)").replace("5", row["n"])
        if row["difference"]:
            low, high = (f"{float(row[key]):+.2f}" for key in ("low", "high"))
            assert cells[4:6] == [f"{float(row['difference']):+.2f}", f"[{low}, {high}]"]
        assert cells[-2] == f"{1e3 * float(row['seconds_per_step']):.0f}"
        assert cells[-1] == row["peak_memory_mib"]


def test_markdown_says_the_same(report, page):
    text = (report / "report.md").read_text(encoding="utf-8")
    cells = {re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\||\n", text)}
    numbers = {cell for row in rows_of(page) for cell in row if re.match(r"[-+\d.\[]", cell)}
    assert len(numbers) > 60 and numbers <= cells
    links = re.findall(r"!\[.+?\]\((figures/[\w-]+\.svg)\)", text)
    assert len(links) == 11 and all((report / link).is_file() for link in links)
    assert "<b>" not in text and "`y`" not in text.replace(r"\`y\`", "")


def test_the_page_is_well_formed_and_stands_alone(report, page):
    assert page.faults == []
    text = (report / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and not page.all("script") and not page.all("link")
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(([^)]*)\)", text)
    for _, attributes, _ in page.elements:
        assert ("src" not in attributes and "style" not in attributes) or "http" not in attributes.get("style", "")
        references += [attributes[key] for key in ("href", "xlink:href") if key in attributes]
        references += [f"#{attributes[key]}" for key in ("aria-labelledby",) if key in attributes]
    assert {reference[0] for reference in references} == {"#"} and {one[1:] for one in references} <= set(ids)
    assert "http" not in text and "@import" not in text


def test_labels_are_text(report, page):
    assert EVIL in dict.fromkeys(row[0] for row in rows_of(page))
    assert not [attributes for attributes, text in page.all("b") if "quoted" in text]
    assert EVIL in (text for _, text in page.all("li"))
    for file in (report / "figures").iterdir():
        assert "<b>" not in file.read_text()


def test_every_figure_has_caption_and_description(report, page):
    figures = page.all("figure")
    captions = [text for _, text in page.all("figcaption")]
    assert len(figures) == len(captions) == 11
    for place, text in enumerate(captions, 1):
        assert text.startswith(f"Figure {place}. ") and len(text) > 150
    pictures = page.all("svg")
    assert all(attributes["role"] == "img" for attributes, _ in pictures) and len(pictures) == 11
    descriptions = [text for attributes, text in page.all("title") if attributes]
    assert len(descriptions) == 11 and all(len(text) > 40 for text in descriptions)
    heads = [attributes for attributes, _ in page.all("th")]
    assert heads and all(attributes.get("scope") in ("col", "row") for attributes in heads)


def test_files_of_figures(report):
    files = {file.name: file.read_bytes() for file in (report / "figures").iterdir()}
    assert {"accuracy.svg", "differences.svg", "validation.svg", "cost.svg", "fidelity-gap.svg"} <= files.keys()
    for name, content in files.items():
        assert content.startswith(b"<?xml") and b"<metadata>" not in content and len(content) < 60_000, name
        assert b'role="img"' in content and b"var(--" not in content


def test_the_answer(study):
    folder, scores = study
    sentences = answer(open_study(folder))
    first = mean(scores["svd_exact"])
    assert re.search(rf"highest.* svd_exact: {first:.2f} ± ", sentences[0])
    text = "\n".join(sentences)
    assert re.search(r"Failed, and left out .*svd_pi \(1 of 3 runs: loss is nan.*average \(all 3 runs: loss", text)
    assert re.search("Inf or NaN .* 4 of 12 runs: svd_pi and average", text)


def table_study(folder, rows):
    """A study of rows of a table alone, the first of which is the reference."""
    folder.mkdir()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return open_study(folder)


def against(label, difference, low, high, p, p_holm, n=5):
    return {"variant": label, "n": n, "mean": 90 + difference, "std": 0.3, "difference": difference} | {
        key: value for key, value in zip(("low", "high", "p", "p_holm"), (low, high, p, p_holm), strict=True)
    }


def test_standings_and_sentences(tmp_path):
    study = table_study(
        tmp_path / "s",
        [
            {"variant": "base", "n": 5, "mean": 90, "std": 0.2},
            against("up", 1.0, 0.5, 1.5, 0.001, 0.004),
            against("down", -1.0, -1.5, -0.5, 0.001, 0.004),
            against("near", 0.1, -0.3, 0.5, 0.4, 0.4),
            against("corrected", 0.4, 0.1, 0.7, 0.02, 0.08),
            against("twin", 0, "", "", "", ""),
            against("shifted", 0.5, "", "", "", ""),
            against("single", 0.5, "", "", "", "", n=1),
            {"variant": "broken", "n": 0, "failed": 5},
        ],
    )
    found = {row["variant"]: study.standing(row) for row in study.rows}
    assert found == {
        **{"base": "reference", "up": "better", "down": "worse", "near": "undecided", "corrected": "undecided"},
        **{"twin": "equal", "shifted": "untested", "single": "untested", "broken": "failed"},
    }
    assert study.rows[0]["variant"] == "up" and study.rows[-1]["variant"] == "broken"
    text = "\n".join(answer(study))
    assert re.search(r" up: 91\.00 ± 0\.30 .*5 runs.*\+1\.00 .*base .*\+0\.50 .*\+1\.50\b", text)
    assert re.search(r"Better .*base\b.*: up \(\+1\.00\)\.", text)
    assert re.search(r"Worse .*base\b.*: down \(-1\.00\)\.", text)
    assert re.search(r"base\b.*: corrected \(\+0\.40\) and near \(\+0\.10\)\..*no proof", text)
    assert re.search(r"same .*base\b.*: twin\.", text)
    assert "shifted and single." in text


def test_a_reference_that_is_a_value(tmp_path):
    """Each variant is compared to the one that differs from it in this value alone."""
    (tmp_path / "s").mkdir()
    grid = {"head.name": ["a", "b", "c"], "head.form": ["folded", "published"]}
    (tmp_path / "s/study.yaml").write_text(yaml.safe_dump({"reference": "form=folded", "grid": grid}))
    rows = [
        {"variant": f"{name}, form={form}", "head.name": name, "head.form": form, "n": 5, "mean": 90, "std": 0.2}
        for name, form in (("a", "folded"), ("a", "published"), ("b", "folded"), ("c", "published"))
    ]
    rows[1] |= {"mean": 89, "difference": -1, "low": -1.5, "high": -0.5, "p": 0.001, "p_holm": 0.001}
    with open(tmp_path / "s/table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[1]))
        writer.writeheader()
        writer.writerows(rows)
    study = open_study(tmp_path / "s")
    assert {row["variant"]: (study.reference_of(row), study.standing(row)) for row in study.rows} == {
        "a, form=folded": ("a, form=folded", "reference"),
        "a, form=published": ("a, form=folded", "worse"),
        "b, form=folded": ("b, form=folded", "reference"),
        "c, form=published": ("", "untested"),
    }
    text = "\n".join(answer(study))
    assert "It is a reference." in text
    assert re.search(r"Worse .*form=folded\b.*: a, form=published \(-1\.00\)\.", text)
    assert "or of a counterpart: c, form=published." in text


def test_the_forest_draws_the_intervals(tmp_path, drawn):
    small(tmp_path / "s")
    write_report(tmp_path / "s")
    with open(tmp_path / "s" / "table.csv", newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    axes = drawn[1].axes[0]
    ticks = {text.get_text(): place for text, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert set(ticks) == {"svd_pade", "average"}
    bars = {line.get_ydata()[0]: list(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2}
    for label, y in ticks.items():
        assert bars[y] == [float(rows[label]["low"]), float(rows[label]["high"])]
    assert len(axes.texts) == 0 or axes.texts[0].get_text().startswith("◂")


def test_curves_are_medians_and_ranges_of_the_seeds(tmp_path, drawn):
    small(tmp_path / "s")
    write_report(tmp_path / "s")
    (axes,) = (axes for axes in drawn[2].axes if axes.get_title("left") == "svd_pade")
    runs = []
    for seed in range(3):
        with open(tmp_path / "s" / "cells" / f"v1-seed{seed}" / "metrics.csv", newline="") as file:
            runs.append([float(row["val_accuracy"]) for row in csv.DictReader(file)])
    expected = [sorted(values)[1] for values in zip(*runs, strict=True)]
    assert [list(line.get_ydata()) for line in axes.get_lines()][1] == expected
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == min(map(min, runs)) and band.max() == max(map(max, runs))


def test_groups_of_several_keys(tmp_path, drawn):
    grid = {"head.name": ["svd_pade", "svd_pi"], "head.form": ["folded", "published"], "head.dim": [64]}
    build(tmp_path / "s", grid, 2, 3)
    study = open_study(tmp_path / "s")
    assert study.keys == ["head.name", "head.form"]
    text = write_report(tmp_path / "s").read_text()
    assert [row[:2] for row in rows_of(Page(text))[1:5]] == [
        *(["svd_pade", "folded"], ["svd_pade", "published"], ["svd_pi", "folded"], ["svd_pi", "published"]),
    ]
    labels = [text.get_text() for text in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["svd_pade", "form=folded", "form=published", "svd_pi", "form=folded", "form=published"]


def without(*names):
    def strip(folder):
        for name in names:
            for path in folder.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return strip


def only_headers(folder):
    for path in folder.glob("cells/*/*.csv"):
        path.write_text(path.read_text().splitlines()[0] + "\n")


def torn(folder):
    for path in folder.rglob("*.csv"):
        text = path.read_text()
        path.write_text(text[: 2 * len(text) // 3])


def pending(folder):
    path = folder / "cells.csv"
    path.write_text(path.read_text().replace("done", "pending"))
    (folder / "table.csv").write_text("variant,n,failed,mean\nsvd_exact,0,0,\nsvd_pade,0,0,\n")


def strange(folder):
    (folder / "study.yaml").write_text(
        "seeds: three\ngrid: [1]\npublished: 5\nnotes: one\ntitle: [a, b]\noverrides: {a: 1}\n"
    )
    for path in folder.glob("cells/*/*.json"):
        path.write_text({"0": "{", "1": "[1]"}.get(path.parent.name[-1], '{"cores": "x", "packages": 3}'))
    for path in folder.glob("cells/*/config.yaml"):
        path.write_text("data: [1]\nhead: 3\n" if "seed0" in str(path) else "{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("study.yaml"), "study.yaml is not there"),
        (without("table.csv"), "table.csv is not there"),
        (without("cells.csv", "cells"), "cells.csv is not there"),
        (without("cells"), "highest mean"),
        (without("cells/*/spectrum.csv", "cells/*/environment.json", "cells/*/config.yaml"), "highest mean"),
        (only_headers, "highest mean"),
        (torn, "runs"),
        (pending, "all 9 runs have not finished"),
        (strange, "highest mean"),
    ],
)
def test_missing_parts(tmp_path, drawn, change, said):
    small(tmp_path / "s")
    change(tmp_path / "s")
    page = Page(write_report(tmp_path / "s").read_text())
    assert page.faults == [] and said in " ".join(text for _, text in page.all("li"))
    assert len(page.all("figure")) == len(drawn) == len(list((tmp_path / "s" / "figures").iterdir()))


def test_a_single_seed_has_no_intervals(tmp_path, drawn):
    build(tmp_path / "s", {"head.name": ["svd_exact", "svd_pade"]}, 1, 1)
    page = Page(write_report(tmp_path / "s").read_text())
    text = " ".join(text for _, text in page.all("li"))
    assert "Not tested" in text and "svd_pade" in text and "interval" not in text
    assert not any(attributes.get("id") == "figure-differences" for attributes, _ in page.all("figure"))


def test_the_same_bytes_twice(tmp_path):
    build(tmp_path / "s", {"head.name": ["svd_exact", "svd_pade"]}, 2, 2)
    without("cells/*/spectrum.csv", "cells/*/metrics.csv")(tmp_path / "s")
    write_report(tmp_path / "s", tmp_path / "one")
    first = write_report(tmp_path / "s", tmp_path / "two")
    assert first.read_bytes() == (tmp_path / "one" / "report.html").read_bytes()
    for name in ("report.md", "figures/accuracy.svg", "figures/differences.svg", "figures/cost.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_figures_alone(tmp_path, drawn):
    small(tmp_path / "s")
    written = write_figures(tmp_path / "s", tmp_path / "f")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "f").iterdir()}
    assert len(written) == len(drawn) == 9 and not (tmp_path / "s" / "report.html").exists()


def test_a_cell_cannot_point_outside_of_its_folder(tmp_path):
    small(tmp_path / "s")
    (tmp_path / "metrics.csv").write_text("epoch,val_accuracy\n1,50\n")
    study = open_study(tmp_path / "s")
    assert study.curve({"id": "v0-seed0"}) and study.curve({"id": "../.."}) == [] and study.curve({"id": ".."}) == []


def relabel(folder):
    for name in ("cells.csv", "table.csv"):
        path = folder / name
        path.write_text(path.read_text().replace("variant", "label"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no folder.*folder of a study"),
        (lambda folder: folder.mkdir(), "cells.csv.*table.csv.*variant"),
        (lambda folder: (small(folder), relabel(folder)), "cells.csv.*table.csv.*variant"),
        (lambda folder: (small(folder), (folder / "study.yaml").write_text("a: [")), r"study\.yaml cannot be read"),
        (lambda folder: (small(folder), (folder / "study.yaml").write_text("- 1")), "holds no keys with values"),
        (lambda folder: (small(folder), (folder / "cells.csv").write_bytes(b"\xff\xfe\x00")), "no table of comma"),
    ],
)
def test_faults_are_told(tmp_path, make, message):
    make(tmp_path / "s")
    with pytest.raises(DataError, match=message):
        write_report(tmp_path / "s")


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", [name for name in COLOURS if name not in ("paper", "line")])
def test_contrast(name):
    for colour, paper in zip(COLOURS[name], COLOURS["paper"], strict=True):
        high, low = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_study_yaml_runs_nothing(tmp_path):
    small(tmp_path / "s")
    (tmp_path / "s" / "study.yaml").write_text("title: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(DataError, match="cannot be read"):
        open_study(tmp_path / "s")
