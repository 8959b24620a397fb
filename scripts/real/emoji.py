"""Emoji of several vendors: each class is one emoji, train, val and test are drawings of different vendors.

    python scripts/real/emoji.py --out data/emoji

Drawings come from the npm packages `@iconify-json/*`: noto, noto-v1 (Apache-2.0), emojione (CC BY 4.0), emojione-v1
(CC BY-SA 4.0) and openmoji (CC BY-SA 4.0) are train, twemoji (CC BY 4.0) is val, fluent-emoji and fluent-emoji-flat
(MIT) are test; they are rendered with the PyPI package `resvg-py`. Versions of one vendor's set are in the same split.
Classes are emoji that all of them draw. Skin tones, flags and lettered buttons are left out, and so are emoji whose
drawing in one split is a copy of one in another (grey thumbnails that correlate above 0.95 at some shift).
"""

import io
import json
import random
import re
import sys
from typing import Any

import numpy as np
from copies import shifted_copy
from material import SPLITS, Package, check, new_task, npm, parse, parser, positive, save, wheel, write_record
from PIL import Image

from gcp.cli.main import run
from gcp.errors import DataError

VENDORS = {
    "train": ("noto", "noto-v1", "emojione", "emojione-v1", "openmoji"),
    "val": ("twemoji",),
    "test": ("fluent-emoji", "fluent-emoji-flat"),
}
LEFT_OUT = re.compile(r"skin-tone|^flag-|-button$|^keycap|oclock$|-thirty$")
THUMBNAIL = 32
COPY = 0.95


class Vendor:
    """A set of drawings in Iconify's layout."""

    def __init__(self, package: Package):
        self.package = package
        self.data = json.loads((package.folder / "icons.json").read_text())
        self.licence = json.loads((package.folder / "info.json").read_text())["license"]["spdx"]
        self.names = set(self.data["icons"]) | set(self.data.get("aliases", {}))

    def svg(self, name: str) -> str:
        """The drawing of a name or an alias."""
        while name not in self.data["icons"]:
            name = self.data["aliases"][name]["parent"]
        icon = self.data["icons"][name]
        width, height = (icon.get(side, self.data.get(side, 16)) for side in ("width", "height"))
        box = f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}"'
        spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {spaces} {box} width="{width}" height="{height}">{icon["body"]}</svg>'


def rasterise(renderer: Any, svg: str, size: int) -> Image.Image:
    """A drawing on white: RGB, its longer side `size` pixels, in the middle of a square."""
    png = renderer.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True, background="#ffffff")
    image = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    if image.size != (size, size):
        image.thumbnail((size, size))
        square = Image.new("RGB", (size, size), "white")
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = square
    return image


def thumbnail(image: Image.Image) -> np.ndarray:
    """What drawings are compared by: (THUMBNAIL, THUMBNAIL), grey."""
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def copied(drawings: dict[str, list[np.ndarray]]) -> float:
    """The highest correlation between thumbnails of two splits."""
    pairs = [("train", "val"), ("train", "test"), ("val", "test")]
    return max(shifted_copy(a, b) for first, second in pairs for a in drawings[first] for b in drawings[second])


def main(words: list[str]) -> int:
    """Make the task."""
    options = parser(__doc__)
    options.add_argument("--size", type=positive, default=112, help="pixels of an image (default 112)")
    options.add_argument("--classes", type=positive, default=200, help="emoji, drawn by the seed (default 200)")
    given = parse(options, words)
    vendors = {name: Vendor(npm(f"@iconify-json/{name}", given.cache)) for split in SPLITS for name in VENDORS[split]}
    renderer_package = wheel("resvg-py", given.cache)
    sys.path.insert(0, str(renderer_package.folder))
    import resvg_py  # fetched a line above

    common = sorted(set.intersection(*(vendor.names for vendor in vendors.values())))
    common = [name for name in common if not LEFT_OUT.search(name)]
    random.Random(given.seed).shuffle(common)
    chosen: list[str] = []
    left_out: dict[str, float] = {}
    with new_task(given.out) as root:
        for name in common:
            if len(chosen) == given.classes:
                break
            images = {
                split: [rasterise(resvg_py, vendors[vendor].svg(name), given.size) for vendor in VENDORS[split]]
                for split in SPLITS
            }
            correlation = copied({split: [thumbnail(image) for image in images[split]] for split in SPLITS})
            if correlation > COPY:
                left_out[name] = round(correlation, 3)
                continue
            chosen.append(name)
            for split in SPLITS:
                for number, image in enumerate(images[split]):
                    save(image, root, split, name, number)
        if len(chosen) < given.classes:
            raise DataError(f"--classes {given.classes}: only {len(chosen)} emoji pass the checks.")
        checks = check(root, {split: len(VENDORS[split]) for split in SPLITS})
        packages = [vendor.package.record(vendor.licence) for vendor in vendors.values()]
        packages.append(renderer_package.record("MPL-2.0 (the renderer; nothing of it is in the images)"))
        write_record(root, given, packages, checks, vendors=VENDORS, copies_left_out=left_out)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
