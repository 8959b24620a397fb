import errno
import logging
import os
import pickle
import re
import zipfile

import pytest
import torch

from gcp.engine import checkpoint
from gcp.errors import CheckpointError


def state(number, size=50):
    return {"model": {"w": torch.full((size,), float(number))}, "number": number}


def numbers(folder):
    """What each checkpoint of the folder holds."""
    return {path.name: checkpoint.load(path)["number"] for path in checkpoint.candidates(folder)}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def three(tmp_path):
    """last.pt, last-1.pt, last-2.pt with the numbers 3, 2, 1."""
    for number in (1, 2, 3):
        checkpoint.save(tmp_path / "last.pt", state(number), keep=3)
    return tmp_path


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def killer(function, call):
    """`function`, but the process ends at its call number `call`, before it does anything."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise Killed
        return function(*args, **kwargs)

    return wrapped


# ---------------------------------------------------------------- writing


def test_what_is_saved_comes_back(tmp_path):
    saved = {"model": {"w": torch.randn(3, 4).to(torch.bfloat16)}, "meta": {"a": [1, 2.5, None, "x"], "t": (1, True)}}
    checkpoint.save(tmp_path / "last.pt", saved)
    got = checkpoint.load(tmp_path / "last.pt")
    assert got.pop("format") == checkpoint.FORMAT
    assert torch.equal(got.pop("model")["w"], saved["model"]["w"])
    assert got == {"meta": saved["meta"]}


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_rotation_keeps_the_newest(tmp_path, keep):
    for number in range(1, 8):
        checkpoint.save(tmp_path / "last.pt", state(number), keep)
        expected = {"last.pt": number} | {f"last-{age}.pt": number - age for age in range(1, keep) if number > age}
        assert numbers(tmp_path) == expected
        assert files(tmp_path) == sorted(expected)  # and no temporary file


def test_a_smaller_keep_removes_what_is_too_many(three):
    checkpoint.save(three / "last.pt", state(4), keep=2)
    assert numbers(three) == {"last.pt": 4, "last-1.pt": 3}


def test_what_a_kill_or_a_larger_keep_left_far_behind_is_removed(three):
    (three / "last-9.pt").write_bytes(b"")
    checkpoint.save(three / "last.pt", state(4), keep=3)
    assert files(three) == ["last-1.pt", "last-2.pt", "last.pt"]


def test_other_files_of_the_folder_are_left_alone(three):
    checkpoint.save(three / "best.pt", state(9))
    checkpoint.save(three / "best.pt", state(10))
    assert checkpoint.load(three / "best.pt")["number"] == 10
    assert numbers(three) == {"last.pt": 3, "last-1.pt": 2, "last-2.pt": 1}


def test_without_hard_links_the_older_one_is_a_copy(three, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint.save(three / "last.pt", state(4), keep=3)
    assert numbers(three) == {"last.pt": 4, "last-1.pt": 3, "last-2.pt": 2}


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_at_any_renaming_leaves_last_whole(three, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killer(os.replace, call))
        with pytest.raises(Killed):
            checkpoint.save(three / "last.pt", state(4), keep=3)
    path, got = checkpoint.load_latest(three)
    assert path == three / "last.pt" and got["number"] == 3
    assert set(numbers(three).values()) <= {1, 2, 3}  # whole, all of them
    for number in (5, 6, 7):
        checkpoint.save(three / "last.pt", state(number), keep=3)
    assert numbers(three) == {"last.pt": 7, "last-1.pt": 6, "last-2.pt": 5}
    assert files(three) == ["last-1.pt", "last-2.pt", "last.pt"]


@pytest.mark.parametrize("name", ["fsync", "link", "open"])
def test_a_kill_between_the_renamings_leaves_last_whole(three, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(os, name, killer(getattr(os, name), 1))
        with pytest.raises(Killed):
            checkpoint.save(three / "last.pt", state(4), keep=3)
    assert checkpoint.load_latest(three)[1]["number"] == (4 if name == "open" else 3)  # the folder is opened last


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(value, file):
    file.write(b"half of a file")
    no_space()


FULL = [(torch, "save", half_written), (os, "fsync", no_space), (os, "replace", no_space)]


@pytest.mark.parametrize(("owner", "name", "fault"), FULL)
def test_a_full_disk_is_told_and_the_previous_one_is_whole(three, monkeypatch, owner, name, fault):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fault)
        with pytest.raises(CheckpointError, match=r"(?s)last\.pt: .*No space left") as caught:
            checkpoint.save(three / "last.pt", state(4), keep=2)
    assert "The previous last.pt is whole." in str(caught.value) and "MiB free in" in str(caught.value)
    assert checkpoint.load(three / "last.pt")["number"] == 3
    assert ".last.pt.tmp" not in files(three)


def test_a_first_checkpoint_that_fails_promises_no_previous_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        checkpoint.save(tmp_path / "last.pt", state(1))
    assert "previous" not in str(caught.value) and files(tmp_path) == []


def test_a_refusal_of_the_system_in_the_middle_of_writing_is_told_in_its_words(three):
    """A real one: torch replaces the system's error by its own about positions in the archive."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"last\.pt: \[Errno 27\] .*last\.pt is whole"):
            checkpoint.save(three / "last.pt", state(4, size=100_000), keep=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert numbers(three) == {"last.pt": 3, "last-1.pt": 2, "last-2.pt": 1}
    assert files(three) == ["last-1.pt", "last-2.pt", "last.pt"]


def test_no_folder_to_write_to(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere/last\.pt: .*No such file"):
        checkpoint.save(tmp_path / "nowhere" / "last.pt", state(1))


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_anywhere_the_previous_one_is_offered_and_taken(three, caplog, tenth):
    path = three / "last.pt"
    raw = path.read_bytes()
    path.unlink()  # last-1.pt may be the same file
    path.write_bytes(raw[: len(raw) * tenth // 10])
    with pytest.raises(CheckpointError, match=r"last\.pt .*damaged .*previous .*last-1\.pt"):
        checkpoint.load(path)
    with caplog.at_level(logging.WARNING, "gcp"):
        found, got = checkpoint.load_latest(three)
    assert found == three / "last-1.pt" and got["number"] == 2
    assert len(caplog.records) == 1
    assert re.search(rf"(?s)last\.pt .*damaged.*Continuing from {re.escape(str(found))}\b", caplog.text)


def records(path):
    """Name of each record that holds contents of ours, and the place of its first byte."""
    with zipfile.ZipFile(path) as archive:
        raw = path.read_bytes()
        for record in archive.infolist():
            name, extra = (int.from_bytes(raw[record.header_offset + at :][:2], "little") for at in (26, 28))
            yield record.filename, record.header_offset + 30 + name + extra, record.file_size


def test_a_flipped_byte_in_any_record_is_found(three, caplog):
    path = three / "last.pt"
    raw = path.read_bytes()
    path.unlink()
    seen = list(records(three / "last-1.pt"))
    assert any(name.endswith("data.pkl") for name, _, _ in seen) and any("/data/0" in name for name, _, _ in seen)
    for name, start, size in seen:
        damaged = bytearray(raw)
        damaged[start + size // 2] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"damaged: .*{name} .*last-1\.pt"):
            checkpoint.load(path)
        assert checkpoint.load_latest(three)[0] == three / "last-1.pt"
    assert caplog.text.count("Continuing from") == len(seen)


@pytest.mark.parametrize(("place", "bit"), [(10, 0x08), (38, 0x10)], ids=["compressed", "directory"])
def test_a_record_that_is_not_as_torch_writes_them_is_damaged(three, place, bit):
    """Torch leaves the tensor of a `directory` as whatever the memory held."""
    path = three / "last.pt"
    raw = bytearray(path.read_bytes())
    path.unlink()
    raw[directory_entry(raw).start + place] ^= bit
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"is damaged: record .*/data/0 fails its check"):
        checkpoint.load(path)


def directory_entry(raw, record=b"/data/0"):
    """Places of the record's entry in the directory at the end of the archive, which has no sum of its own."""
    name = raw.rindex(record)
    return range(raw.rindex(b"PK\x01\x02", 0, name), name + len(record))


def test_a_flipped_bit_of_the_directory_is_found_or_harmless(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(7, size=6))
    raw = path.read_bytes()
    found = 0
    for place in directory_entry(raw):
        for bit in (0x01, 0x10, 0x80):
            damaged = bytearray(raw)
            damaged[place] ^= bit
            path.write_bytes(damaged)
            try:
                got = checkpoint.load(path)
            except CheckpointError:
                found += 1
                continue
            assert got["number"] == 7 and torch.equal(got["model"]["w"], torch.full((6,), 7.0)), (place, bit)
    assert found > 60


def test_all_damaged_is_an_error_that_names_each(three):
    for path in checkpoint.candidates(three):
        raw = path.read_bytes()
        path.unlink()
        path.write_bytes(raw[:100])
    with pytest.raises(CheckpointError, match=r"(?s)no whole checkpoint .*last\.pt.*last-1\.pt.*last-2\.pt"):
        checkpoint.load_latest(three)


def test_a_gap_in_the_ages_is_passed_over(three):
    (three / "last.pt").unlink()
    (three / "last-1.pt").unlink()
    assert checkpoint.load_latest(three)[1]["number"] == 1


def test_a_run_without_any_checkpoint(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None


def test_missing_file_names_what_is_there(three):
    with pytest.raises(CheckpointError, match=r"lst\.pt.* has .*last\.pt.*Did you mean 'last.*'\?"):
        checkpoint.load(three / "lst.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint .*/nowhere/last\.pt\.$"):
        checkpoint.load(three / "nowhere" / "last.pt")


class Trap:
    """Unpickled without care this would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_foreign_code_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"format": 1, "model": {}, "extra": Trap(trap)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"format": 1, "model": {}, "extra": Trap(trap)}))
    with pytest.raises(CheckpointError, match=r"zip\.pt cannot be read: Weights only load failed"):
        checkpoint.load(tmp_path / "zip.pt")
    with pytest.raises(CheckpointError, match=r"plain\.pt .*damaged .*not a zip"):
        checkpoint.load(tmp_path / "plain.pt")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ({"a": 1, "b": 2}, "a, b"),
        (torch.zeros(2), "Tensor"),
        ({"format": "x", "model": 1}, "format, model"),
        ([], "list"),
    ],
)
def test_a_torch_file_of_something_else(tmp_path, value, holds):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"not a checkpoint .*{holds}"):
        checkpoint.load(tmp_path / "x.pt")


def test_an_archive_that_torch_did_not_write(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match=r"x\.pt cannot be read: "):
        checkpoint.load(tmp_path / "x.pt")


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
        checkpoint.save(tmp_path / "last.pt", state(1))
    with pytest.raises(CheckpointError, match=r"written by a newer version \(format 2, known 1\)"):
        checkpoint.load(tmp_path / "last.pt")
