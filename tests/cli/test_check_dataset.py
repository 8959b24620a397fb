"""The check of a data set from its command line, on small trees."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image
from trees.pictures import picture

import gcp.cli.check_dataset
from gcp.cli.main import run
from gcp.data import DATASETS
from gcp.evaluation.contact_sheet import GAP, HEIGHT, WIDTH, grid

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_dataset.py"
SETS = ("imagenet", "cub", "nabirds", "cars", "aircraft", "dogs", "flowers", "folder")
LAYOUTS = [(name, layout) for name in SETS for layout in import_module(f"trees.{name}").LAYOUTS]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Call the command in this process, in a folder of its own: (exit code, stdout, stderr)."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *words: (run(gcp.cli.check_dataset.main, [str(word) for word in words]), *capsys.readouterr())


def cars(tree):
    root = tree("cars", layout="torchvision")["root"]
    return root, root / "stanford_cars"


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_layout_is_sound_in_part(tree, check, name, layout):
    built = tree(name, layout=layout)
    code, out, err = check(name, built["root"], "--partial", "--json", "found.json")
    assert (code, err) == (0, ""), out
    assert "sound: every file is there" in out and "0 images in two splits" in out
    found = json.loads(Path("found.json").read_text())
    assert found["classes"]["count"] == built["classes"] and found["faults"] == []
    sizes = {split: facts["images"] for split, facts in found["splits"].items()}
    assert sizes == {split: built[split] for split in ("train", "val", "test") if built[split]}
    assert max(map(len, out.splitlines())) <= 120 + len(str(built["root"]))


def test_the_report(tree, check):
    root, _ = cars(tree)
    code, out, _ = check("cars", root)
    assert code == 2
    assert re.search(r"layout +cars_train/, cars_test/ .*\.mat", out)
    assert re.search(r"classes +3 .*196", out)
    assert re.search(r"train +12 +8,144 +4 AM General Hummer SUV 2000 +4 AM General", out)
    assert re.search(r"validation +held out.* 3 images .*data\.val_fraction=0\.1", out)
    assert re.search(r"3 faults:\n  3 classes.*196", out) and re.search("test .*6 images.*8,041", out)


def test_smallest_and_largest_class(tree, check):
    root = tree("folder", layout="train_test" if "train_test" in import_module("trees.folder").LAYOUTS else None)[
        "root"
    ]
    (smallest, *_, largest) = sorted(path.name for path in (root / "train").iterdir())
    next((root / "train" / smallest).iterdir()).unlink()
    picture(root / "train" / largest / "more.jpg")
    assert check("folder", root, "--json", "found.json")[0] == 0
    train = json.loads(Path("found.json").read_text())["splits"]["train"]
    assert (train["smallest"][1], train["largest"][1]) == (smallest, largest)
    assert train["largest"][0] - train["smallest"][0] == 2


def test_one_image_of_each_class_leaves_none_for_validation(tree, check):
    code, out, _ = check("dogs", tree("dogs", per_class=1)["root"], "--partial")
    assert code == 2 and re.search("1 fault:\n  no validation image.* train", out)


def test_notes_and_own_validation(tree, check):
    assert "seen test images" in " ".join(check("dogs", tree("dogs")["root"], "--partial")[1].split())
    assert re.search("validation +3 images", check("flowers", tree("flowers", folder="b")["root"], "--partial")[1])


def test_all_faults_in_one_run(tree, check):
    """Wrong counts hide neither a missing file, nor shared images, nor an unreadable one in the middle."""
    root, place = cars(tree)
    (place / "cars_train/00002.jpg").unlink()
    (place / "cars_train/00007.jpg").write_bytes(b"no image")
    shutil.copy(place / "cars_train/00003.jpg", place / "cars_test/00005.jpg")
    code, out, err = check("cars", root, "--verify", "--sheet", "--json", "found.json")
    assert (code, err) == (2, "")
    assert re.search("train .*12 images.*8,144", out)
    assert re.search(rf"1 of 12 files .*{re.escape(str(place))}/cars_train/00002\.jpg", out)
    assert f"{place}/cars_train/00003.jpg (train) = {place}/cars_test/00005.jpg (test)" in out
    assert re.search("1 image in two splits.* 18 ", out)
    assert f"{place}/cars_train/00007.jpg: UnidentifiedImageError" in out
    found = json.loads(Path("found.json").read_text())
    assert len(found["faults"]) == 7  # the unreadable one is found by both checks
    assert found["shared"] == [["train", f"{place}/cars_train/00003.jpg", "test", f"{place}/cars_test/00005.jpg"]]
    # The missing file cannot be decoded either.
    unreadable = [entry["path"] for entry in found["verified"]["unreadable"]]
    assert unreadable == [f"{place}/cars_train/00002.jpg", f"{place}/cars_train/00007.jpg"]
    assert Path("cars-classes.png").is_file()


def test_images_that_are_twice_in_a_split_or_alike(tree, check):
    """In two classes is a fault, in one class is told, and so are copies that are not the same to the byte."""
    root = tree("folder", per_class=8)["root"]
    first, second = sorted(path for path in (root / "train").iterdir() if path.is_dir())[:2]
    image = sorted(first.iterdir())[0]
    shutil.copy(image, second / "copy.jpg")
    shutil.copy(sorted(first.iterdir())[1], first / "again.jpg")
    test = next(path for path in (root / "test").iterdir() if path.is_dir())
    Image.open(sorted(second.iterdir())[0]).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(test / "turned.png")
    assert check("folder", root)[0] == 0  # without --verify only what is in two splits is compared
    code, out, err = check("folder", root, "--verify", "--json", "found.json")
    assert (code, err) == (2, "")
    assert re.search("repeated +1 .*two classes, 1 .*one class", out)
    assert f"{image} ({first.name}) = {second / 'copy.jpg'} ({second.name})" in out
    assert re.search("alike +1 .*two splits, 0 .*two classes, 0 .*one class", out)
    found = json.loads(Path("found.json").read_text())
    assert len(found["repeated"]) == 2 and found["shared"] == []
    assert len(found["alike"]) == 1 and str(test / "turned.png") in found["alike"][0]


def test_ten_are_shown_and_all_are_written(tree, check):
    root = tree("folder", per_class=8)["root"]
    damaged = sorted((root / "train").rglob("*.jpg"))[:14]
    for path in damaged:
        path.write_bytes(b"no image")
    code, out, _ = check("folder", root, "--verify", "--json", "found.json")
    assert code == 2
    shown = out.partition("14 images cannot be decoded; the first:\n")[2]
    assert shown.count("UnidentifiedImageError") == 10
    assert len(json.loads(Path("found.json").read_text())["verified"]["unreadable"]) == 14


def test_shared_images_are_a_fault_of_the_data_set_and_training_goes_on(tree, check):
    from gcp.data import create_dataset

    root = tree("folder")["root"]
    copied = next((root / "train").rglob("*.jpg"))
    shutil.copy(copied, next((root / "test").iterdir()) / "another.jpg")
    code, out, _ = check("folder", root)
    assert code == 2 and re.search("1 fault:\n  1 image in two splits.*:\n", out)
    assert len(create_dataset("folder", root, image_size=16).test)


def test_many_files_are_compared_with_verify_only(tree, check, monkeypatch):
    monkeypatch.setattr("gcp.cli.check_dataset.MANY", 17)
    root, _ = cars(tree)
    assert re.search("not .* 18 images.*--verify", check("cars", root, "--partial")[1])
    assert "0 images in two splits, of 18" in check("cars", root, "--partial", "--verify")[1]


def test_sheet(tree, check):
    root = tree("dogs", classes=7)["root"]
    code, out, _ = check("dogs", root, "--partial", "--sheet")
    columns, rows = grid(7)
    size = GAP + columns * WIDTH, GAP + rows * HEIGHT
    assert code == 0 and re.search(rf"sheet +dogs-classes\.png .*7 classes, {size[0]} x {size[1]} ", out)
    assert Image.open("dogs-classes.png").size == size
    assert check("dogs", root, "--partial", "--sheet", "other name.png")[0] == 0 and Path("other name.png").is_file()


def test_digits(check):
    code, out, err = check("digits", "--verify", "--sheet")
    assert (code, err) == (0, "")
    assert "classes     10" in out and "test            360" in out and "test: every fifth image by index (360)" in out
    assert "0 images in two splits, of 1,797" in out and "decoded     1,797 images: 0 unreadable" in out
    assert Path("digits-classes.png").is_file()


def test_a_listing_that_fails_is_the_fault(tree, check):
    root, place = cars(tree)
    (place / "cars_test_annos_withlabels.mat").unlink()
    code, out, err = check("cars", root, "--json", "found.json", "--sheet")
    assert (code, err) == (2, "")
    assert "1 fault:\n" in out and "cars_test_annos.mat has no labels" in out
    found = json.loads(Path("found.json").read_text())
    assert len(found["faults"]) == 1 and found["splits"] == {} and found["shared"] is None


def test_a_set_that_is_not_there(tmp_path, check):
    code, out, err = check("cars", tmp_path / "nothing")
    assert (code, err) == (2, "") and f"the folder {tmp_path}/nothing does not exist" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crs", "x"], r"data set 'crs'.*'cars'\?"),
        (["cars"], r"gcp check cars FOLDER"),
        (["digits", "x"], r"no folder.*gcp check digits"),
        (["cars", "x", "y"], r"'y'.*gcp check NAME ROOT \[flags\]"),
        (["--verify", "cars", "x"], r"first.*gcp check NAME ROOT"),
        (["cars", "x", "--verfy"], r"flag '--verfy'.*'--verify'"),
        (["cars", "x", "--json"], r"--json needs a value"),
        (
            ["cars", "x", "--json", "/no/such/folder/x.json"],
            r"--json /no/such/folder/x.json: not a file",
        ),
        (["cars", "x", "--sheet", "/no/such/folder/x.png"], r"--sheet /no/such/folder/x.png: not a file"),
        (["cars", "x", "--sheet", "x.jpg"], r"--sheet.*'x.jpg'.*.png"),
    ],
)
def test_faults_of_the_command_line_are_one_line(check, words, message):
    code, out, err = check(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and re.search(message, err)


@pytest.mark.parametrize("words", [["--help"], ["-h"], [], ["cars", "--help"]])
def test_help(check, words):
    code, out, err = check(*words)
    assert (code, err) == (0, "")
    assert all(flag in out for flag in gcp.cli.check_dataset.FLAGS)


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].obj.needs_root and "*" not in name])
def test_every_data_set_on_disk_says_what_it_looked_for(tmp_path, check, name):
    code, out, err = check(name, tmp_path)
    assert (code, err) == (2, "") and "1 fault:\n" in out and str(tmp_path) in out


def test_nothing_is_written_into_the_data_set(tree, check):
    root, _ = cars(tree)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    check("cars", root, "--verify", "--sheet", "--json", "found.json")
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


def test_names_that_the_terminal_cannot_show(tree, tmp_path):
    """Bytes that are no UTF-8 in a file name, and a terminal that knows ASCII only."""
    root = tree("folder")["root"]
    (folder,) = list((root / "train").iterdir())[:1]
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb") as file:
        file.write(b"no image")
    words = [sys.executable, SCRIPT, "folder", root, "--verify", "--json", "found.json"]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2, done.stderr.decode()
    assert rb"\udcff.jpg" in done.stdout and b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes(tree, tmp_path, number):
    root = tree("folder", classes=2, per_class=4)["root"]
    (folder, _) = (root / "train").iterdir()
    Image.new("RGB", (800, 800)).save(tmp_path / "large.jpg")  # all of them take two processes ten seconds
    for copy in range(8000):
        os.link(tmp_path / "large.jpg", folder / f"more{copy}.jpg")
    words = [sys.executable, SCRIPT, "folder", root, "--verify"]
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": pipe, "text": True, "cwd": tmp_path, "start_new_session": True}
    cores = sorted(os.sched_getaffinity(0))[:2]  # with more of them it could be done before the signal comes
    with subprocess.Popen(words, preexec_fn=lambda: os.sched_setaffinity(0, cores), **options) as process:
        for line in process.stdout:
            if line.startswith("  shared"):  # decoding comes next
                break
        time.sleep(0.3)
        # Ctrl-C goes to every process of the terminal, the others to the first one.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        error = process.stderr.read()
        assert process.wait(20) == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in error and "Error" not in error
    with pytest.raises(ProcessLookupError):  # no process is left behind
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
