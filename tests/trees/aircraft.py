"""FGVC-Aircraft, pointed at from three places."""

from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("archive", "parent", "data")
VARIANTS = ("707-320", "Cessna 172", "F/A-18")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images, of which one is in the list val, and two test images of each variant."""
    variants = [*VARIANTS, *(f"Variant {label}" for label in range(len(VARIANTS), classes))][:classes]
    archive = root / "fgvc-aircraft-2013b"
    data = archive / "data"
    lists: dict[str, list[str]] = {"train": [], "val": [], "trainval": [], "test": []}
    for label, variant in enumerate(variants):
        for number in range(per_class + 2):
            image = f"{label:04d}{number:03d}"
            picture(data / "images" / f"{image}.jpg")
            line = f"{image} {variant}"
            if number < per_class:
                lists["trainval"].append(line)
            lists["test" if number >= per_class else "val" if number == 0 else "train"].append(line)
    for name, lines in lists.items():
        (data / f"images_variant_{name}.txt").write_text("\n".join(lines) + "\n")
    (data / "variants.txt").write_text("\n".join(variants) + "\n")
    given = {"archive": archive, "parent": root, "data": data}[layout]
    return {"root": given, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}
