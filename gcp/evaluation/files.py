"""The files of an evaluation: tables, pictures and scores in one folder."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcp.errors import GCPError

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcp.engine.evaluate import Samples
    from gcp.evaluation.comparison import Comparison
    from gcp.evaluation.confusion import Pair
    from gcp.evaluation.scoring import Evaluation

PAIRS = 12  # most confused pairs on the sheet
EXAMPLES = 3  # wrong images of each, beside one of the class that they were taken for


def check_file(flag: str, path: str | None) -> None:
    """Raise GCPError where a file cannot be written, before minutes are spent on what should go into it."""
    if path is None:
        return
    if Path(path).is_dir():
        raise GCPError(f"cannot write {path}, which is a folder: {flag} needs a file")
    if not Path(path).resolve().parent.is_dir():
        mend = f"mkdir -p {shlex.quote(str(Path(path).parent))}"
        raise GCPError(f"cannot write {path}: {flag} needs a file in a folder that exists. Make it: {mend}")


# What a spreadsheet takes for a formula and computes; names of classes and files come from elsewhere.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_folder(path: str | None, flag: str = "--report") -> None:
    """Make the folder of a flag; raise GCPError where that cannot be."""
    if path is None:
        return
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCPError(f"cannot make the folder {path} of {flag}: {error.strerror or error}") from error


def write_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with the same keys as CSV, written whole or not at all; numbers that are not whole with four digits."""
    from gcp.engine.folder import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    _write(lambda: write_text(path, text.getvalue()), path)


def write_scores(path: str | None, result: "Evaluation") -> None:
    """The scores as JSON, where a path is given."""
    if path is not None:
        write_values(path, result.as_dict())


def write_values(path: str | Path, values: dict[str, Any]) -> None:
    """Plain values as JSON, written whole or not at all."""
    from gcp.engine.folder import write_json

    _write(lambda: write_json(path, values), path)


def write_evaluation(folder: str | None, result: "Evaluation", comparison: "Comparison | None") -> None:
    """Write everything that is known about an evaluation into a folder, and say so."""
    if folder is None:
        return
    from gcp.data import StreamSet
    from gcp.engine.folder import write_json
    from gcp.evaluation.calibration import draw_calibration
    from gcp.evaluation.confusion import class_rows, confusion_matrix, draw_confusion, most_confused
    from gcp.evaluation.scoring import comparison_dict

    place, samples, names = Path(folder), result.samples, result.splits.classes
    matrix = confusion_matrix(samples.labels.numpy(), samples.predicted.numpy(), len(names))
    pairs = most_confused(matrix, PAIRS)
    paths = getattr(result.splits, result.split).paths
    write_scores(str(place / "scores.json"), result)
    write_csv(place / "per_class.csv", class_rows(matrix, names))
    write_csv(place / "predictions.csv", prediction_rows(samples, names, paths, labelled=True))
    if comparison is not None:
        _write(lambda: write_json(place / "comparison.json", comparison_dict(comparison)), place)
    _write(lambda: draw_confusion(matrix, names, place / "confusion.png"), place)
    _write(lambda: draw_calibration(result.calibration, place / "calibration.png"), place)
    for pair in pairs[:5]:
        told = f"{names[pair.true]} taken for {names[pair.predicted]}"
        print(f"{'confused':<12}{told}: {pair.count} of {matrix[pair.true].sum()} images")
    if isinstance(result.images, StreamSet):
        print("no pictures of confused pairs: a stream cannot be asked for single images")
    elif pairs:
        _write(lambda: _draw_pairs(result, pairs, place / "confused.png"), place)
    print(f"{'report':<12}{place}")


def prediction_rows(
    samples: "Samples", names: Sequence[str], paths: Sequence[str] | None, labelled: bool
) -> list[dict[str, Any]]:
    """One row for each image: which it is, its label if `labelled`, and its best classes with their probabilities."""
    rows = []
    for index in range(len(samples)):
        row: dict[str, Any] = {"file": paths[index]} if paths is not None else {"index": index}
        if labelled:
            row["label"] = names[int(samples.labels[index])]
            row["right"] = int(samples.right[index])
        best = zip(samples.classes[index].tolist(), samples.probabilities[index].tolist(), strict=True)
        for rank, (number, probability) in enumerate(best, 1):
            row |= {f"class_{rank}": names[number], f"probability_{rank}": probability}
        rows.append(row)
    return rows


def _draw_pairs(result: "Evaluation", pairs: "Sequence[Pair]", path: Path) -> None:
    from gcp.evaluation.contact_sheet import draw_sheet

    side_by_side = 1 if len(pairs) <= PAIRS // 3 else 2
    tiles = [tile for pair in pairs for tile in _examples(result, pair)]
    draw_sheet([tile[0] for tile in tiles], [tile[1] for tile in tiles], path, columns=side_by_side * (EXAMPLES + 1))


def _examples(result: "Evaluation", pair: "Pair") -> "list[tuple[Image | None, str]]":
    """The wrong images of a pair that the model was surest of, and a right one of the class they were taken for, with
    their titles; as many tiles for every pair.
    """
    labels, predicted = result.samples.labels.numpy(), result.samples.predicted.numpy()
    confidence, names = result.samples.confidence.numpy(), result.splits.classes
    wrong = np.flatnonzero((labels == pair.true) & (predicted == pair.predicted))
    right = np.flatnonzero((labels == pair.predicted) & (predicted == pair.predicted))
    wrong, right = (places[np.argsort(-confidence[places], kind="stable")] for places in (wrong, right))
    tiles: list[tuple[Image | None, str]] = [
        (_picture(result, int(place)), f"{names[pair.true]} taken for {names[pair.predicted]}")
        for place in wrong[:EXAMPLES]
    ]
    tiles += [(_picture(result, int(place)), f"right: {names[pair.predicted]}") for place in right[:1]]
    return tiles + [(None, "")] * (EXAMPLES + 1 - len(tiles))


def _picture(result: "Evaluation", index: int) -> "Image":
    """An image as the model sees it."""
    from PIL import Image

    image = result.images[index][0]  # type: ignore[index]
    if image.is_floating_point():
        image = (255 * image).round().byte()
    if image.shape[0] not in (1, 3):
        image = image[:1]
    return Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else value


def _write(write: Any, path: object) -> None:
    try:
        write()
    except OSError as error:
        raise GCPError(f"cannot write {path}: {error}") from error
