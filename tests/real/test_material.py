"""Folders, their checks, and what is said to a mistake; nothing is fetched."""

import importlib
import json
import re
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest

from gcp.cli.main import run
from gcp.errors import DataError

RNG = np.random.default_rng(0)


def make(root, classes=("a", "b"), each=2):
    """A task of random images."""
    from material import SPLITS, save

    for split in SPLITS:
        for name in classes:
            for number in range(each):
                save(RNG.integers(0, 256, (8, 8), dtype=np.uint8), root, split, name, number)


def test_a_sound_task(tmp_path):
    from material import check, write_record

    make(tmp_path)
    checks = check(tmp_path, dict.fromkeys(("train", "val", "test"), 2))
    assert checks["classes"] == 2 and checks["images"] == {"train": 4, "val": 4, "test": 4}
    package = {"name": "p", "version": "1", "source": "Debian", "licence": "MIT"}
    write_record(tmp_path, Namespace(out=tmp_path, cache=tmp_path, seed=3), [package], checks, note=1)
    record = json.loads((tmp_path / "about.json").read_text())
    assert record["options"] == {"seed": "3"} and record["packages"] == [package] and record["note"] == 1
    assert record["checks"] == checks


def test_the_folders_are_a_data_set(tmp_path):
    """As data.name=folder reads them: every split where it should be."""
    from gcp.data.sets.folder import listing

    make(tmp_path)
    found = listing(tmp_path)
    assert list(found.classes) == ["a", "b"] and set(found.splits) == {"train", "val", "test"}


@pytest.mark.parametrize(("split", "label"), [("test", "a"), ("val", "b"), ("train", "b")])
def test_an_image_in_two_splits_or_classes_is_found(tmp_path, split, label):
    from material import check, save

    make(tmp_path)
    twice = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    save(twice, tmp_path, "train", "a", 7)
    save(twice, tmp_path, split, label, 8)
    with pytest.raises(DataError, match=f"train/a/00007.png and {split}/{label}/00008.png are the same image"):
        check(tmp_path)


def test_a_missing_class_and_a_wrong_count_are_found(tmp_path):
    from material import check

    make(tmp_path)
    with pytest.raises(DataError, match="holds 2 images, and 3 were to be made"):
        check(tmp_path, {"train": 2, "val": 3, "test": 2})
    for path in (tmp_path / "val" / "b").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="val has other classes than train: b"):
        check(tmp_path)


def test_a_folder_has_its_name_only_once_it_is_done(tmp_path):
    from material import new_task

    out = tmp_path / "deep" / "task"
    with pytest.raises(RuntimeError), new_task(out) as part:
        (part / "x").touch()
        raise RuntimeError
    assert not out.exists()
    with new_task(out) as part:
        assert not (part / "x").exists()
        (part / "y").touch()
    assert (out / "y").exists()


def test_what_an_installer_says_is_passed_on(tmp_path):
    from material import _call

    with pytest.raises(DataError, match="not on this machine"):
        _call(["no-such-installer"], tmp_path, "p")
    with pytest.raises(DataError, match=r"failed: nothing here\."):
        _call([sys.executable, "-c", "import sys; sys.exit('nothing here')"], tmp_path, "p")


def test_a_package_that_is_there_is_not_fetched(tmp_path, monkeypatch):
    import material

    folder = tmp_path / "debian" / "p"
    (folder / "files").mkdir(parents=True)
    (folder / "VERSION").write_text("1.2")
    monkeypatch.setattr(material, "_call", lambda *_: pytest.fail("fetched again"))
    assert material.debian("p", tmp_path) == material.Package("p", "1.2", "Debian", folder / "files")


def test_licences_of_a_package(tmp_path):
    from material import Package

    package = Package("p", "1", "Debian", tmp_path)
    assert package.record()["licence"] == "free, see usr/share/doc/p/copyright"
    (tmp_path / "usr/share/doc/p").mkdir(parents=True)
    files = [("*", "OFL-1.1"), ("debian/*", "GPL-3"), ("a", "GPL-2+\n Text.")]
    text = "Format: x\n\n" + "\n".join(f"Files: {name}\nLicense: {licence}\n" for name, licence in files)
    (tmp_path / "usr/share/doc/p/copyright").write_text(text + "\nLicense: OFL-1.1\n Text.\n")
    assert package.licences() == ["GPL-2+", "OFL-1.1"]
    assert package.record()["licence"] == "GPL-2+, OFL-1.1" and package.record("MIT")["licence"] == "MIT"


@pytest.mark.parametrize("script", ["fashion", "textures", "fonts", "emoji", "weights"])
def test_a_mistake_is_one_message(tmp_path, monkeypatch, capsys, script):
    """Exit code 2, and before anything is fetched."""
    import material

    monkeypatch.setattr(material, "_call", lambda *_: pytest.fail("fetched"))
    main = importlib.import_module(script).main
    words = ["--cache", str(tmp_path), "--out"]
    assert run(main, [*words, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: --out {re.escape(str(tmp_path))} exists.*new folder.*\n", error)
    with pytest.raises(SystemExit, match="2"):
        run(main, [*words, str(tmp_path / "new"), "--seed", "x"])


def test_a_script_runs_from_anywhere(scripts, tmp_path):
    """In a process of its own: the package is found, and so is a mistake in a number."""
    command = [sys.executable, str(scripts / "fashion.py"), "--out", "new", "--train", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "'0' is not an integer of at least 1" in done.stderr
