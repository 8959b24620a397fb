"""Images with their names below, on one sheet: whether labels and images belong together, or what is confused.

A permuted list of classes, which costs nothing but the accuracy, is seen at a glance.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Pixels. Two lines of text; about twenty letters to a line.
TILE, GAP, FONT, LINE = 128, 8, 12, 15
WIDTH, HEIGHT = TILE + GAP, TILE + 2 * LINE + GAP
SHAPE = 4 / 3  # of the sheet
ENDING = 4  # letters of the end of a long name, which often is a year


def grid(count: int) -> tuple[int, int]:
    """Columns and rows for `count` tiles."""
    columns = max(1, round(math.sqrt(count * SHAPE * HEIGHT / WIDTH)))
    columns = min(columns, max(count, 1))
    return columns, max(1, math.ceil(count / columns))


def draw_sheet(
    images: Iterable["Image | None"], names: Sequence[str], path: str | Path, columns: int | None = None
) -> tuple[int, int]:
    """Write the sheet as a PNG and return its width and height in pixels.

    images: one for each of `names`, of any size, or None where there is none to show, which leaves a grey tile; without
        a name nothing is drawn.
    columns: in a row; None for a sheet of the usual shape.
    """
    from PIL import Image, ImageDraw

    columns, rows = grid(len(names)) if columns is None else (columns, max(1, math.ceil(len(names) / columns)))
    sheet = Image.new("RGB", (GAP + columns * WIDTH, GAP + rows * HEIGHT), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = GAP + index % columns * WIDTH, GAP + index // columns * HEIGHT
        if image is None and not name:
            continue
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill="#eeeeee" if image else "#999999")
        if image is not None:
            small = _fit(image)
            sheet.paste(small, (left + (TILE - small.width) // 2, top + (TILE - small.height) // 2))
        _write(draw, font, name, left, top + TILE)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    sheet.save(temporary, "PNG")
    os.replace(temporary, path)
    return sheet.size


def _fit(image: "Image") -> "Image":
    """The whole image as large as a tile holds; pixels stay visible where it is smaller by far."""
    from PIL import Image, ImageOps

    method = Image.Resampling.NEAREST if 2 * max(image.size) < TILE else Image.Resampling.LANCZOS
    return ImageOps.contain(image.convert("RGB"), (TILE, TILE), method)


def _write(draw: "ImageDraw", font: "FreeTypeFont", name: str, left: int, top: int) -> None:
    for number, line in enumerate(wrap(name, lambda text: font.getlength(text) <= TILE)):
        draw.text((left + TILE / 2, top + number * LINE + 1), line, fill="black", font=font, anchor="ma")


def wrap(name: str, fits: Callable[[str], bool]) -> list[str]:
    """At most two lines of `name` that fit; too long a name loses letters before its last ones."""
    text = "".join(letter if letter.isprintable() else " " for letter in name).strip()
    if fits(text):
        return [text]
    first = _longest(text, fits)
    # Between words where there are any, else in the middle of one.
    at = max(first.rfind(mark) for mark in " _-/") + 1
    cut = at if at > len(first) // 3 else len(first)
    rest = text[cut:].strip()
    end = "…" + rest[-ENDING:]
    return [text[:cut].strip(), rest if fits(rest) else _longest(rest, lambda part: fits(part + end)) + end]


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of `text` that fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return text[:low]


def _font() -> "FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib and has more alphabets than Pillow's own font."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT)
