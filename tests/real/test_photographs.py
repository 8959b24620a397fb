"""The pieces of photographs, and how forms of a flow are compared on them."""

import csv
import random
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_photographs_of_the_splits_are_disjoint():
    from photographs import divided

    names = [f"photo{number}" for number in range(30)]
    splits = divided(names, 0)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [21, 3, 6]
    assert sorted(name for split in splits.values() for name in split) == sorted(names) and splits == divided(
        names, 0
    ) != divided(names, 1)


def test_pieces_do_not_overlap_and_keep_to_their_half():
    from photographs import equal_squares, grid, pieces

    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    squares = grid(Image.fromarray(pixels), 32)
    assert squares.shape == (8, 8, 32, 32, 3) and np.array_equal(squares[1, 2], pixels[32:64, 64:96])
    made = pieces(squares, 16, random.Random(0))
    assert sorted(number for half in made.values() for number, _ in half) == list(range(16))
    left = {square.tobytes() for square in squares[:, :4].reshape(-1, 32, 32, 3)}
    assert {square.tobytes() for _, square in made["left"]} < left
    assert not left & {square.tobytes() for _, square in made["right"]}
    assert not equal_squares(squares)
    squares = squares.copy()
    squares[0, 0] = squares[5, 5]
    assert equal_squares(squares)


def test_images_of_one_photograph_count_once():
    from flow_forms import compare

    rng = np.random.default_rng(0)
    photographs = np.repeat(np.arange(10), 8)
    plain, by_photograph = rng.normal(size=80), np.repeat(rng.normal(size=10), 8)
    bits = {("plain", 0): plain, ("plain", 1): plain, ("svd", 0): plain + by_photograph, ("svd", 1): plain + 1}
    (row,) = compare(bits, photographs)
    assert row["difference"] == pytest.approx((by_photograph.mean() + 1) / 2)
    assert row["error_photographs"] == pytest.approx(by_photograph[::8].std(ddof=1) / 10**0.5 / 2)
    assert row["error_images"] < 0.5 * row["error_photographs"]
    assert (row["images"], row["photographs"], row["seeds"]) == (80, 10, 2)


def test_the_documented_comparison_is_that_of_its_tables():
    from flow_forms import compare

    root = Path(__file__).parents[2] / "docs"
    with (root / "study/glow-photographs/bits.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = [name for name in rows[0] if name != "image"]
    bits = {(run[:-2], int(run[-1])): np.array([float(row[run]) for row in rows]) for run in runs}
    text = (root / "glow.md").read_text()
    for form in ("plain", "plu", "svd"):
        (told,) = re.findall(rf"\| `{form}` \| (4\.\d{{4}}) \|", text)
        mean = np.mean([bits[form, seed].mean() for seed in range(3)])
        assert float(told) == pytest.approx(mean, abs=1.5e-4)  # the table is rounded
    for pair in compare(bits, np.array([int(row["image"]) // 100 for row in rows])):
        errors = pair["error_photographs"], pair["error_images"], pair["deviation_seeds"] / 3**0.5
        assert " | ".join(f"{value:.4f}" for value in (pair["difference"], *errors)) in text
        assert (pair["images"], pair["photographs"], pair["seeds"]) == (384, 24, 3)
