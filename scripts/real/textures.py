"""Photographic textures: each class is one photograph, train, val and test are crops of disjoint regions of it.

    python scripts/real/textures.py --out data/textures

The photographs are those of Debian's `ufoai-textures` (GPL-2, GPL-2+, Expat or public domain; Creative Commons files
are left out). Of each, 512 pixels across, the left half is train, of the right half the upper 38 % are val and the
lower 58 % test, with gaps of 4 % between them. A crop is a rotated square of 56 to 112 pixels, resized to --size, in
grey, with a random gain and gamma: colour and brightness alone would name the photograph.

Left out: photographs that are too small or flat, recoloured copies of another one (correlation of thumbnails over all
shifts above 0.5), and those that repeat themselves across the split (a patch of 64 pixels of val or test with a
correlation above 0.9 to a window of train or of the other, over eight orientations).
"""

import random
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
from copies import LIMIT, distinct, repeats
from material import SPLITS, Package, check, debian, new_task, parse, parser, positive, save, write_record
from PIL import Image

from gcp.cli.main import run
from gcp.errors import DataError

PACKAGE = "ufoai-textures"
SIDE = 512  # pixels of a photograph
REGIONS = {"train": (0, 0, 246, 512), "val": (266, 0, 512, 196), "test": (266, 216, 512, 512)}  # left, top, right, end
THUMBNAIL = 64
ALIKE = 0.5  # correlation of thumbnails over all shifts; different photographs stay below 0.4
FLAT = 8.0  # standard deviation of grey values of 255
LICENCES = ("GPL-2", "GPL-2+", "Expat", "public-domain")
# photographs, picked by eye, with no more than one object; drawings, doors, signs and composites are left out
PHOTOGRAPHS = """
tex_ctp1: asphalt_b_1 bricks_g_1 bricks_m_1 bricks_r_3 bricks_w_1 concrete_g_10 concrete_g_11 concrete_g_4 concrete_g_5
    concrete_g_6 concrete_g_7 concrete_g_8 concrete_p_10 concrete_s_1 dirt_01 dirt_b_1 dirt_b_2 dirt_b_4 grass_g_4
    grass_g_7 grass_g_8 ground_b_1 ground_b_2 ground_g_1 ground_g_2 hedge01 hedge02 marble_m_1 metal_g_1 metal_g_3
    rocks_w_1 roof_t_1 roof_t_2 roof_w_1 sand_s_1 stucco_o_1 tiles_g_2 tiles_m_4 volcano_b_1 wood_b_1 wood_b_10 wood_b_2
    wood_b_3 wood_b_4 wood_b_6 wood_b_9 wood_g_1 woodb_5
tex_mattn: concrete001 concrete002 concrete003 dirt001 dirt002 dirt003 dung2 floor009 floor028 grass001 grass002
    grass003 hedge001 marmor rock001 rock004 rock005 roof008 rust rust2 stone002 straw straw2 wall049 wall053 wall054
    wall067 wall070 wall073 wall075 wall079 wall084 wall085 wall088 wall_bricks002 wall_bricks003 wall_bricks005
    wall_bricks006 wood006 wood008 wood009 wood015 wood016
tex_nature: desert001 desert002 desert003 desert004 desert005 desert007 desert008 dirt002 dirt003 grass004 grass_lush
    grass_mowed_dry_a grass_mowed_green_a grass_tall_dry_a grass_tall_green_a ice003 pjrock1 pjrock16 pjrock21 pjrock6
    railway rock001 rock004 rock005 rock008 rock009 rock010 rock011 rock012 rock013 rock014 rock015 rock017 rock018
    rockyground01 sand snow001 snow003 stone001 tree001 tree002 tree003
tex_buildings: carpet025 concrete004 concrete008 concrete009 concrete01dark floor005 floor012 floor021 floor033 floor035
    floor037 floor039 floor_se01 floor_se03 floor_se04 floor_wood01 metal01 metal02 roof12 rustpipes sidewalk01 surface2
    wall007 wall041 wall043 wall5_4 wall_brick01
tex_buildings_snow: wall002
tex_trak: trak4_brick1 trak4_brick2 trak4_concrete1a trak4_concrete4a
tex_material: metal001 metal003 metall012
"""


def photographs() -> list[str]:
    """The names FOLDER/FILE of the table."""
    names = []
    for folder, files in re.findall(r"^(\w+): ([^:]*?)(?=^\w+:|\Z)", PHOTOGRAPHS, re.MULTILINE):
        names += [f"{folder}/{file}" for file in files.split()]
    return names


def licences(text: str) -> dict[str, str]:
    """File of the package (without ending) -> licence, from Debian's copyright file; the key "" is the rest."""
    found = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(\S+):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if "Files" in fields and "License" in fields:
            for pattern in fields["Files"].split():
                name = "" if pattern == "*" else pattern.removeprefix("base/textures/").rpartition(".")[0]
                found[name] = fields["License"].split("\n")[0].strip()
    return found


def square(image: Image.Image, mode: str = "L") -> Image.Image:
    """The largest square at the top left of an image, in grey or another mode of PIL, SIDE pixels across."""
    side = min(image.size)
    return image.convert(mode).crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def load(package: Package, mode: str = "L") -> tuple[dict[str, Image.Image], dict[str, str], dict[str, str]]:
    """(photographs, their licences, reasons for those left out), by name, of the archive of the package."""
    archive = zipfile.ZipFile(package.folder / "usr/share/games/ufoai/base/0textures.pk3")
    files = {Path(name).with_suffix("").as_posix(): name for name in archive.namelist()}
    told = licences((package.folder / "usr/share/doc/ufoai-textures/copyright").read_text())
    images, by_name, left_out = {}, {}, {}
    for name in photographs():
        if f"textures/{name}" not in files:
            left_out[name] = "not in the package"
            continue
        licence = told.get(name, told[""])
        with archive.open(files[f"textures/{name}"]) as file:
            image = Image.open(file)
            small = min(image.size) < SIDE
            image = square(image, mode)
        if licence not in LICENCES:
            left_out[name] = f"licence {licence}"
        elif small or np.asarray(image).std() < FLAT:
            left_out[name] = "too small" if small else "flat"
        else:
            images[name], by_name[name] = image, licence
    return images, by_name, left_out


def region(image: Image.Image, split: str) -> np.ndarray:
    """The pixels (H, W) of a photograph that a split may use."""
    return np.asarray(image.crop(REGIONS[split]), dtype=np.float32)


def repetition(image: Image.Image) -> float:
    """The highest correlation between the regions of two splits."""
    pairs = [("train", "val"), ("train", "test"), ("val", "test")]
    return max(repeats(region(image, first), region(image, second)) for first, second in pairs)


def crop(image: Image.Image, split: str, size: int, rng: random.Random) -> np.ndarray:
    """A random rotated square inside the region of a split: (size, size), uint8."""
    left, top, right, bottom = REGIONS[split]
    side = rng.uniform(56, 112)
    reach = side / 2**0.5  # from the centre to a corner
    x, y, angle = rng.uniform(left + reach, right - reach), rng.uniform(top + reach, bottom - reach), rng.uniform(0, 7)
    a, b, half = np.cos(angle) * side / size, np.sin(angle) * side / size, size / 2
    affine = (a, -b, x - half * (a - b), b, a, y - half * (a + b))
    pixels = np.asarray(image.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)) / 255
    pixels = np.clip(pixels, 1e-3, 1) ** rng.uniform(0.75, 1.33) * rng.uniform(0.75, 1.25)
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)


def main(words: list[str]) -> int:
    """Make the task."""
    options = parser(__doc__)
    options.add_argument("--size", type=positive, default=112, help="pixels of a crop (default 112)")
    for split, number in (("train", 16), ("val", 8), ("test", 16)):
        options.add_argument(f"--{split}", type=positive, default=number, help=f"crops a class (default {number})")
    options.add_argument("--classes", type=positive, help="use only the first so many photographs")
    given = parse(options, words)
    package = debian(PACKAGE, given.cache)
    images, licence, left_out = load(package)
    thumbnails = [
        (name, np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float64))
        for name, image in images.items()
    ]
    kept, alike = distinct(thumbnails, ALIKE)
    left_out |= {name: f"like {other}" for name, other in alike.items()}
    correlations = {name: round(repetition(images[name]), 3) for name in kept}
    left_out |= {name: f"repeats itself ({value})" for name, value in correlations.items() if value > LIMIT}
    chosen = [name for name in kept if correlations[name] <= LIMIT][: given.classes]
    if given.classes and len(chosen) < given.classes:
        raise DataError(f"--classes {given.classes}: only {len(chosen)} photographs pass the checks.")
    with new_task(given.out) as root:
        rng = random.Random(given.seed)
        for name in chosen:
            for split in SPLITS:
                for number in range(getattr(given, split)):
                    pixels = crop(images[name], split, given.size, rng)
                    save(pixels, root, split, name.removeprefix("tex_").replace("/", "-"), number)
        checks = check(root, {split: getattr(given, split) for split in SPLITS})
        used = sorted({licence[name] for name in chosen})
        write_record(
            root,
            given,
            [package.record(" and ".join(used))],
            checks,
            highest_correlation_between_splits=max(correlations[name] for name in chosen),
            photographs={name: {"licence": licence[name], "correlation": correlations[name]} for name in chosen},
            left_out=left_out,
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
