"""What the scripts of this folder share: fetch packages, write images into folders, check them, record what was done.

Packages come from the system's own installers (`apt-get download`, `pip download`, `npm pack`) into a cache and are
unpacked there, not installed. Images are written as ROOT/{train,val,test}/CLASS/NUMBER.png, which data.name=folder
reads, with ROOT/about.json beside them: seed, packages with version and licence, counts, and the result of the checks.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works in a checkout that is not installed

import numpy as np
from PIL import Image

from gcp.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Package:
    """A package that lies unpacked in `folder`."""

    name: str
    version: str
    source: str  # the installer that fetched it: Debian, PyPI or npm
    folder: Path

    def record(self, licence: str | None = None) -> dict[str, str]:
        """What about.json says of it; by default with the licences that Debian's copyright file names."""
        told = licence or ", ".join(self.licences()) or f"free, see usr/share/doc/{self.name}/copyright"
        return {"name": self.name, "version": self.version, "source": self.source, "licence": told}

    def licences(self) -> list[str]:
        """The short names in Debian's copyright file, but for those of the packaging; none where it is free text."""
        file = self.folder / "usr/share/doc" / self.name / "copyright"
        paragraphs = re.split(r"\n\s*\n", file.read_text(errors="replace") if file.is_file() else "")
        files = [text for text in paragraphs if re.search(r"^Files:(?!\s*debian/)", text, re.MULTILINE)]
        return sorted(
            {found[1].strip() for text in files for found in re.finditer(r"^License:(.+)", text, re.MULTILINE)}
        )


def _call(command: Sequence[str], folder: Path, package: str) -> str:
    """Standard output of an installer. Raises DataError where it is not there or fails, with its last line."""
    if shutil.which(command[0]) is None:
        raise DataError(f"{package} is fetched with {command[0]!r}, which is not on this machine.")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        hint = " Try `apt-get update` first." if command[0] == "apt-get" else ""
        raise DataError(f"`{' '.join(command)}` failed: {lines[-1] if lines else 'without a word'}.{hint}")
    return done.stdout


@contextmanager
def _new_folder(final: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name only once it is complete."""
    part = final.with_name(final.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(final)


def _unpacked(final: Path) -> tuple[str, Path] | None:
    """Version and folder of a package that an earlier call has unpacked."""
    return ((final / "VERSION").read_text(), final / "files") if final.is_dir() else None


def debian(name: str, cache: Path) -> Package:
    """A Debian package, by `apt-get download` and `dpkg-deb`. Raises DataError where it cannot be had."""
    final = cache / "debian" / name
    if _unpacked(final) is None:
        with _new_folder(final) as part:
            _call(["apt-get", "download", name], part, name)
            (file,) = part.glob("*.deb")
            _call(["dpkg-deb", "--extract", file.name, "files"], part, name)
            (part / "VERSION").write_text(_call(["dpkg-deb", "--field", file.name, "Version"], part, name).strip())
            file.unlink()
    return Package(name, (final / "VERSION").read_text(), "Debian", final / "files")


def wheel(name: str, cache: Path) -> Package:
    """A wheel of PyPI, by `pip download`. Raises DataError where it cannot be had."""
    final = cache / "pypi" / name
    if _unpacked(final) is None:
        with _new_folder(final) as part:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", name]
            _call(command, part, name)
            (file,) = part.glob("*.whl")
            zipfile.ZipFile(file).extractall(part / "files")
            (part / "VERSION").write_text(file.name.split("-")[1])
            file.unlink()
    return Package(name, (final / "VERSION").read_text(), "PyPI", final / "files")


def npm(name: str, cache: Path) -> Package:
    """A package of the npm registry, by `npm pack`. Raises DataError where it cannot be had."""
    final = cache / "npm" / name.replace("/", "+")
    if _unpacked(final) is None:
        with _new_folder(final) as part:
            _call(["npm", "pack", "--silent", name], part, name)
            (file,) = part.glob("*.tgz")
            with tarfile.open(file) as archive:
                archive.extractall(part / "all", filter="data")
            (part / "all" / "package").rename(part / "files")
            (part / "VERSION").write_text(json.loads((part / "files" / "package.json").read_text())["version"])
            file.unlink()
    return Package(name, (final / "VERSION").read_text(), "npm", final / "files")


def positive(text: str) -> int:
    """An integer of at least one, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return number


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """The options of every script: --out, --seed, --cache."""
    new = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcp-real"
    new.add_argument("--out", type=Path, required=True, help="folder to make; it must not exist")
    new.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    new.add_argument("--cache", type=Path, default=cache, help=f"where packages are kept (default {cache})")
    return new


def parse(options: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options given. Raises DataError where --out exists already, before anything is fetched."""
    given = options.parse_args(words)
    if given.out.exists():
        raise DataError(f"--out {given.out} exists already. Remove it, or name a new folder.")
    return given


@contextmanager
def new_task(out: Path) -> Iterator[Path]:
    """A folder to write the splits into, named `out` once everything in it is written and checked."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with _new_folder(out) as part:
        yield part


def save(image: Image.Image | np.ndarray, root: Path, split: str, label: str, number: int) -> None:
    """Write root/split/label/number.png. `image`: a PIL image, or (H, W) or (H, W, 3) of uint8."""
    folder = root / split / label
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(folder / f"{number:05d}.png")


def fingerprint(path: Path) -> str:
    """A digest of the pixels of an image file: equal for equal images, whatever the file says beside them."""
    with Image.open(path) as image:
        return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


def equal_images(root: Path) -> list[tuple[str, str]]:
    """Pairs of files below root/{train,val,test} with equal pixels that lie in two splits or in two classes."""
    first: dict[str, Path] = {}
    pairs = []
    for split in SPLITS:
        for path in sorted((root / split).glob("*/*.png")):
            other = first.setdefault(fingerprint(path), path)
            if other.parent != path.parent:
                pairs.append((str(other.relative_to(root)), str(path.relative_to(root))))
    return pairs


def count(root: Path) -> dict[str, Counter]:
    """Images of each class in each split."""
    return {split: Counter(path.parent.name for path in sorted((root / split).glob("*/*.png"))) for split in SPLITS}


def check(root: Path, expected: dict[str, int] | None = None) -> dict[str, Any]:
    """Check a finished task: the same classes in every split, images as `expected` in each class, none in two splits.

    Returns what about.json and the last lines of output say. Raises DataError, naming what is wrong.
    """
    counts = count(root)
    names = sorted(counts["train"])
    for split in SPLITS:
        if sorted(counts[split]) != names or not names:
            odd = sorted(set(names) ^ set(counts[split])) or ["no class at all"]
            raise DataError(f"{root / split} has other classes than train: {', '.join(odd[:5])}.")
        wrong = {name: got for name, got in counts[split].items() if expected and got != expected[split]}
        if wrong:
            name, got = next(iter(wrong.items()))
            raise DataError(f"{root / split / name} holds {got} images, and {expected[split]} were to be made.")
    if pairs := equal_images(root):
        raise DataError(f"{pairs[0][0]} and {pairs[0][1]} are the same image ({len(pairs)} such pairs).")
    return {
        "classes": len(names),
        "images": {split: sum(counts[split].values()) for split in SPLITS},
        "images_a_class": {split: sorted(set(counts[split].values())) for split in SPLITS},
        "equal_images_between_splits_or_classes": 0,
    }


def write_record(
    root: Path, options: argparse.Namespace, packages: Iterable[dict[str, str]], checks: dict[str, Any], **more: Any
) -> None:
    """Write root/about.json and print it shortly. `more`: what else there is to say of the task."""
    words = {name: str(value) for name, value in vars(options).items() if name not in ("out", "cache")}
    record = {"script": Path(sys.argv[0]).name, "options": words, "packages": list(packages), "checks": checks, **more}
    (root / "about.json").write_text(json.dumps(record, indent=1) + "\n")
    licences = Counter(package["licence"] for package in record["packages"])
    sources = ", ".join(dict.fromkeys(package["source"] for package in record["packages"]))
    shown = ", ".join(f"{name} ({number})" for name, number in licences.most_common(8))
    print(f"packages  {len(record['packages'])} of {sources}: {shown}{', ...' if len(licences) > 8 else ''}")
    print(
        f"images    {checks['classes']} classes, {', '.join(f'{n} {split}' for split, n in checks['images'].items())}"
    )
    for name, value in {**more, **{k: v for k, v in checks.items() if k not in ("classes", "images")}}.items():
        text = json.dumps(value)
        print(f"{name}: {text if len(text) < 300 else text[:300] + ' ...'}")
