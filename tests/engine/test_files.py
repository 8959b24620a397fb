import errno
import os

import pytest

from gcp.engine.folder import write_json, write_text


def test_text_is_written_as_it_is(tmp_path):
    write_text(tmp_path / "a.txt", "one\ntwo\r\nä")
    assert (tmp_path / "a.txt").read_bytes() == "one\ntwo\r\nä".encode()
    write_text(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").read_bytes() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_json_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_the_old_text_stays_whole_when_the_new_one_cannot_be_written(tmp_path, monkeypatch, name):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
