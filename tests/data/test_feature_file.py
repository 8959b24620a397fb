"""A file that processes fill together: what a kill, damage and a full disk leave of it."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from gcp.data import feature_file
from gcp.data.feature_file import FeatureFile
from gcp.data.features import FeatureSet
from gcp.errors import DataError

ROWS, SHAPE = 10, (3, 2, 2)
MAPS = np.random.default_rng(0).normal(size=(ROWS, *SHAPE)).astype(np.float16)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Of five pieces of two rows, or less for the last of an odd number."""
    monkeypatch.setattr(feature_file, "PIECE", 2 * MAPS[0].nbytes)
    made = FeatureFile(tmp_path / "deep" / "train-0", ROWS, SHAPE, "float16", together=2)
    made.reserve()
    return made


def fill(file, pieces=None):
    for count, piece in enumerate(file.claims()):
        if pieces is not None and count == pieces:
            return
        rows = file.rows_of(piece)
        file.write(piece, MAPS[rows.start : rows.stop])


def killed(file):
    fill(file, 2)  # and with a third claimed
    os.kill(os.getpid(), signal.SIGKILL)


def test_filled_and_read_back(file):
    assert file.missing() == [0, 1, 2, 3, 4] and file.pieces == 5
    fill(file)
    assert not file.missing() and not file.verify()
    maps = file.open()
    assert isinstance(maps, np.memmap) and maps.flags.writeable is False
    np.testing.assert_array_equal(maps, MAPS)
    again = FeatureFile(file.path, ROWS, SHAPE, "float16", together=2)
    again.reserve()
    assert not again.missing() and not list(again.claims())


def test_what_a_kill_leaves_is_computed_by_the_next(file):
    process = multiprocessing.get_context("fork").Process(target=killed, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert file.missing() == [2, 3, 4]  # the claim went with the process
    fill(file)
    np.testing.assert_array_equal(file.open(), MAPS)


def claim_and_tell(file, told):
    told.put(list(file.claims()))


def test_a_piece_is_claimed_by_one_process(file):
    claims = file.claims()
    assert next(claims) == 0
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    process = context.Process(target=claim_and_tell, args=(FeatureFile(file.path, ROWS, SHAPE, "float16", 2), told))
    process.start()
    assert told.get(timeout=30) == [1, 2, 3, 4]
    process.join()


@pytest.mark.parametrize("place", [0, MAPS[0].nbytes * 7])
def test_damage_is_found_and_only_that_piece_is_missing(file, place):
    fill(file)
    path = file.path.with_name(f"{file.path.name}.maps")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert file.verify() == [place // (2 * MAPS[0].nbytes)] == file.missing()
    file.close()
    fill(file)
    assert not file.verify()


def test_a_file_that_was_cut_is_missing(file):
    fill(file)
    os.truncate(file.path.with_name(f"{file.path.name}.maps"), 7)
    assert file.missing() == [0, 1, 2, 3, 4]


def test_no_room_is_said_beforehand(file, monkeypatch):
    monkeypatch.setattr(feature_file.shutil, "disk_usage", lambda _: Free())
    larger = FeatureFile(file.path.with_name("x"), 10**9, SHAPE, "float32")
    with pytest.raises(DataError, match=r"48\.00 GB more.*0\.00 GB free.*train\.cache_dir=.*train\.cache_views"):
        larger.reserve()
    assert not list(file.path.parent.glob("x.*"))


class Free:
    free = 0


def test_views_are_chosen_by_the_seed(file):
    fill(file)
    features = FeatureSet([0, 1, 2, 1, 0], file, views=2)
    plain, labels = features.read([4, 1])
    np.testing.assert_array_equal(plain.numpy(), MAPS[[8, 2]])
    assert labels.tolist() == [0, 1] and plain.dtype.is_floating_point
    seeds = np.arange(64, dtype=np.uint64)
    drawn, _ = features.read([3] * 64, seeds)
    first = (drawn.numpy() == MAPS[6]).all((1, 2, 3))
    second = (drawn.numpy() == MAPS[7]).all((1, 2, 3))
    assert (first ^ second).all() and 16 < first.sum() < 48
    np.testing.assert_array_equal(features.read([3] * 64, seeds)[0], drawn)
    part = features.subset([3, 0])
    np.testing.assert_array_equal(part.read([0])[0].numpy(), MAPS[[6]])
