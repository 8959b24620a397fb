import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trees.pictures import picture

from gcp.data.checks.verify import verify, verify_sets
from gcp.data.images import TensorSet
from gcp.data.stream import Sample, Shard, StreamSet
from gcp.errors import DataError


def photograph(path, size=(40, 40), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return {"exif": exif}


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_all_found_in_order(tmp_path, workers):
    paths = [str(picture(tmp_path / f"{number}.jpg")) for number in range(200)]
    for number in (3, 64, 190):
        Path(paths[number]).write_bytes(b"no image")
    whole = Path(paths[7]).read_bytes()
    Path(paths[7]).write_bytes(whole[:-100])
    Path(paths[8]).unlink()
    found = verify(paths, workers)
    assert found.images == 200 and found.small == 195
    assert [path for path, _ in found.unreadable] == [paths[number] for number in (3, 7, 8, 64, 190)]
    reasons = [reason.partition(":")[0] for _, reason in found.unreadable]
    assert reasons == ["UnidentifiedImageError", "OSError", "FileNotFoundError", *["UnidentifiedImageError"] * 2]


def test_rotation_by_exif_is_counted(tmp_path):
    paths = [photograph(tmp_path / f"{value}.jpg", **orientation(value)) for value in (1, 3, 6, 8)]
    paths.append(photograph(tmp_path / "none.jpg"))
    paths.append(photograph(tmp_path / "six.png", **orientation(6)))
    assert verify(paths).rotated == 4


def test_short_sides_are_counted(tmp_path):
    sizes = [(31, 100), (100, 31), (32, 32), (8, 8)]
    assert verify([photograph(tmp_path / f"{w}x{h}.png", size=(w, h)) for w, h in sizes]).small == 3


def test_damaged_metadata_do_not_make_an_image_unreadable(tmp_path):
    path = photograph(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    found = verify([path])
    assert (found.unreadable, found.rotated) == ((), 0)


def test_more_than_sixteen_bits(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((40, 40), dtype=np.int32)).save(path)
    ((_, reason),) = verify([str(path)]).unreadable
    assert "mode 'I'" in reason


def test_nothing():
    assert verify([]).images == 0


def test_a_process_that_dies_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setattr("gcp.data.checks.verify.decode", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DataError, match=r"process .*died.*memory"):
        verify([str(picture(tmp_path / "a.jpg"))], workers=1)


def test_sets_that_are_no_files():
    def decode(sample):
        if sample.name == "bad":
            raise DataError("cannot read bad")
        return torch.zeros(1, 2, 2)

    def read(shard):
        return [Sample(name, None, 0) for name in ("good", "bad", "good")]

    def transform(images, seeds):
        return torch.stack(list(images))

    stream = StreamSet([Shard("a", 3), Shard("b", 4)], read, decode, 1, transform)
    memory = TensorSet(torch.zeros(5, 1, 2, 2), [0] * 5, lambda images, seeds: images)
    found = verify_sets({"train": stream, "test": memory})
    assert found.images == 12
    # Two bad images, and a shard that is shorter than it says.
    first, second, short = [reason for _, reason in found.unreadable]
    assert first == second == "cannot read bad" and re.search(r"^b .*\b3 images.*\b4\.$", short)
