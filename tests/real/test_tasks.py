"""What the scripts decide without a network: regions, licences, words, the split of Fashion-MNIST, names of weights."""

import random
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from gcp.errors import CheckpointError, DataError


def test_regions_of_a_photograph_do_not_touch():
    from textures import REGIONS, SIDE

    used = np.zeros((SIDE, SIDE), dtype=int)
    for left, top, right, bottom in REGIONS.values():
        used[top:bottom, left:right] += 1
    assert used.max() == 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_crop_stays_in_its_region(split):
    """On a photograph that is white inside of the region and black outside: no crop is dark at a corner."""
    from textures import REGIONS, SIDE, crop

    left, top, right, bottom = REGIONS[split]
    pixels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    rng = random.Random(0)
    for _ in range(200):
        made = crop(Image.fromarray(pixels), split, 32, rng)
        assert made.shape == (32, 32) and made.min() > 180


def test_a_photograph_that_repeats_itself():
    from textures import repetition

    noise = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    assert repetition(Image.fromarray(noise)) < 0.3
    noise[230:360, 280:500] = noise[100:230, 10:230][::-1, ::-1]
    assert repetition(Image.fromarray(noise)) > 0.99
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    noise[20:180, 280:500] = noise[230:390, 280:500]  # val in test
    assert repetition(Image.fromarray(noise)) > 0.99


def test_the_names_of_the_photographs():
    from textures import photographs

    names = photographs()
    assert len(names) == len(set(names)) > 100
    assert "tex_ctp1/asphalt_b_1" in names and "tex_material/metall012" in names


def test_licences_of_debians_copyright_file():
    from textures import licences

    text = """Format: x
Upstream-Name: U

Files: *
Copyright: 2002, The Team
License: GPL-2+

Files:
 base/textures/tex_a/one.png
 base/textures/tex_a/two_nm.png
Copyright:
 Somebody
License: CC-BY-3.0

License: GPL-2+
 Files: are not named here
"""
    assert licences(text) == {"": "GPL-2+", "tex_a/one": "CC-BY-3.0", "tex_a/two_nm": "CC-BY-3.0"}


def test_no_word_and_no_size_is_in_two_splits():
    from fonts import X_HEIGHTS, words_of_splits

    words = [f"word{i}" for i in range(1000)]
    parts = words_of_splits(words, random.Random(0))
    assert {split: len(part) for split, part in parts.items()} == {"train": 600, "val": 150, "test": 250}
    assert parts == words_of_splits(words[::-1], random.Random(0)) != words_of_splits(words, random.Random(1))
    for first, second in combinations(parts, 2):
        assert not set(parts[first]) & set(parts[second])
        assert not set(X_HEIGHTS[first]) & set(X_HEIGHTS[second])


def test_words_are_set_at_the_height_asked_for(tmp_path):
    """With the typeface that matplotlib ships; its letters are compared with themselves and with another weight."""
    import matplotlib
    from copies import alike
    from fonts import ALIKE, at_height, draw, extent, letters

    folder = f"{matplotlib.get_data_path()}/fonts/ttf"
    plain, serif = f"{folder}/DejaVuSans.ttf", f"{folder}/DejaVuSerif.ttf"
    _, top, _, bottom = extent(at_height(plain, 16), "x")
    assert abs(bottom - top - 16) <= 1
    assert alike(letters(plain), letters(plain)) > ALIKE > alike(letters(plain), letters(serif))
    assert letters(f"{folder}/STIXSizFourSymReg.ttf") is None  # brackets only
    image = draw(at_height(plain, 16), 16, ["some", "words"], 64, random.Random(0))
    assert image.shape == (64, 64) and image.dtype == np.uint8 and np.ptp(image) > 60
    again = draw(at_height(plain, 16), 16, ["some", "words"], 64, random.Random(0))
    assert np.array_equal(image, again)


def test_typefaces_are_named_once():
    from fonts import TYPEFACES

    stems = [word for word in TYPEFACES.split() if not word.endswith(":")]
    packages = [word for word in TYPEFACES.split() if word.endswith(":")]
    assert len(set(stems)) == len(stems) > 100 and len(set(packages)) == len(packages)


def test_the_split_of_fashion_mnist():
    from fashion import choose, without_copies

    labels = np.repeat(np.arange(3), 40)
    few = choose(labels, {"train": 5, "val": 10}, seed=0)
    more = choose(labels, {"train": 20, "val": 10}, seed=0)
    assert np.array_equal(few["val"], more["val"]) and set(few["train"]) < set(more["train"])
    assert not set(more["train"]) & set(more["val"])
    assert np.array_equal(np.bincount(labels[few["train"]]), [5, 5, 5])
    rest = choose(labels, {"train": None, "val": 10}, seed=0)
    assert len(rest["train"]) == 90
    with pytest.raises(DataError, match=r"ask for 41 images of a class, which has 40"):
        choose(labels, {"train": 31, "val": 10}, seed=0)
    images = np.arange(5, dtype=np.uint8)[:, None, None]
    assert without_copies(np.concatenate([images, images]), images[1:2]).tolist() == [0, 2, 3, 4]


def test_idx_files(tmp_path):
    import gzip

    from fashion import read

    header = bytes([0, 0, 8, 2]) + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + bytes(range(6))))
    assert read(tmp_path, "x").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_vendors_are_in_one_split_and_aliases_are_followed(tmp_path):
    import json

    from emoji import LEFT_OUT, VENDORS, Vendor, copied
    from material import Package

    assert len(set(sum(VENDORS.values(), ()))) == sum(map(len, VENDORS.values()))
    assert all(LEFT_OUT.search(name) for name in ("flag-japan", "boy-dark-skin-tone", "ok-button"))
    assert not LEFT_OUT.search("black-flag")
    icons = {"icons": {"cat": {"body": "<g/>"}}, "aliases": {"kitten": {"parent": "cat"}}, "width": 36, "height": 30}
    (tmp_path / "icons.json").write_text(json.dumps(icons))
    (tmp_path / "info.json").write_text('{"license": {"spdx": "MIT"}}')
    vendor = Vendor(Package("p", "1", "npm", tmp_path))
    assert vendor.names == {"cat", "kitten"} and vendor.licence == "MIT"
    assert 'viewBox="0 0 36 30"' in vendor.svg("kitten") and "<g/>" in vendor.svg("kitten")
    drawn = np.random.default_rng(0).normal(size=(4, 32, 32))
    assert copied({"train": [drawn[0]], "val": [drawn[1]], "test": [drawn[2]]}) < 0.5
    assert copied({"train": [drawn[0]], "val": [drawn[1]], "test": [drawn[0]]}) == pytest.approx(1)


def test_every_tensor_of_the_network_is_named(tmp_path):
    """From the names of timm's network back: each has one name in a package, and the file loads into our model."""
    import timm
    from weights import convert

    import gcp
    from gcp.models.names import INVERTED, OUTSIDE, SEPARABLE

    model = timm.create_model("tf_efficientnet_lite0")
    counted = [(stage, index) for stage, blocks in enumerate(model.blocks) for index in range(len(blocks))]
    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            block = counted.index((int(parts[1]), int(parts[2])))
            names = INVERTED if parts[1] != "0" else SEPARABLE
            layer = next(old for old, new in names.items() if new == parts[3])
            theirs = f"_blocks.{block}.{layer}.{parts[4]}"
        else:
            theirs = f"{next(old for old, new in OUTSIDE.items() if new == parts[0])}.{parts[1]}"
        state[theirs] = value
    with pytest.raises(CheckpointError, match="EfficientNet"):
        convert({**state, "_blocks.16._bn1.weight": torch.ones(1)}, model)
    converted = convert(state, model)
    assert converted.keys() == model.state_dict().keys() and len(state) == len(converted)
    torch.save(converted, tmp_path / "lite0.pt")
    ours = gcp.create_model("tf_efficientnet_lite0", head="average", num_classes=1000, pretrained=tmp_path / "lite0.pt")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours.eval()(images), model.eval()(images))
