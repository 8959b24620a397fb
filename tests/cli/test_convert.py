"""Converting files of weights from the command line, and telling the order of a triangle by labelled images."""

import re
import subprocess
import sys
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch
from PIL import Image

import gcp.cli.convert
from gcp.cli.main import run
from gcp.data.images import FileSet
from gcp.data.transforms import create_transform
from gcp.engine import checkpoint
from gcp.models.checkpoints import read_checkpoint

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_checkpoint.py"
SIZE = 96


@pytest.fixture
def convert(here, capsys):
    """Call the command in this process."""

    def convert(*words):
        code = run(gcp.cli.convert.main, [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return convert


@pytest.fixture
def file(here):
    """A file of fast-MPN-COV and its logits."""
    content, logits = foreign.build("fast_mpn_cov")
    torch.save(content, here / "in.pth")
    return logits


def facts(out):
    return {line[:12].strip(): line[12:] for line in out.splitlines()}


def test_inspect(convert, file):
    code, out, _ = convert("--inspect", "in.pth")
    told = facts(out)
    assert code == 0 and told.pop("size").startswith("128 tensors, 11.1")
    assert re.search("upper.*lower.*--data", told.pop("order"))
    assert told.pop("layout").startswith("fast_mpn_cov: ")
    assert told == {
        "file": "in.pth",
        "backbone": "resnet18",
        "last stride": "1",
        "head": "newton_schulz",
        "d": "6",
        "classifier": "21 -> 5",
        "classes": "5",
        "epoch": "not told",
    }
    assert convert("in.pth", "--inspect") == (code, out, "")


@pytest.mark.parametrize("name", ["out.pt", "out.safetensors", "größe 1.pt"])
def test_to_a_file_of_ours(convert, file, name):
    code, out, _ = convert("in.pth", name, "--order", "upper")
    assert code == 0 and f"read as     upper\nwritten     {name}" in out
    told = facts(convert("--inspect", name)[1])
    assert told["layout"] == "own: this library" and told["order"] == "upper" and told["head"] == "newton_schulz"
    model = gcp.create_model(
        "resnet18", "newton_schulz", 5, dim=6, last_stride=1, pretrained=str(name)
    ).eval()  # fmt: skip
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.allclose(model(images), file(images), rtol=1e-4, atol=1e-5)
    if name.endswith(".pt"):
        saved = checkpoint.load(name)
        assert saved["config"]["model"]["last_stride"] == 1 and saved["config"]["head"]["dim"] == 6
        assert saved["source"]["layout"] == "fast_mpn_cov" and saved["source"]["order"] == "upper"


@pytest.mark.parametrize("order", ["upper", "lower"])
@pytest.mark.parametrize("between", ["ours.pt", "ours.safetensors"])
def test_through_our_file_and_back_bit_for_bit(convert, here, order, between):
    content, _ = foreign.build("differentiable_svd", order=order)
    del content["state_dict"]["features.module.1.num_batches_tracked"]  # as in files of torch 0.3
    torch.save(content, here / "in.pth.tar")
    assert convert("in.pth.tar", between, "--order", order)[0] == 0
    code, out, _ = convert(between, "back.pth.tar", "--to", "differentiable_svd")
    assert code == 0 and "left out" not in out
    back = torch.load("back.pth.tar", weights_only=True)
    assert set(back) == {"epoch", "arch", "state_dict", "best_prec1"}
    assert (back["epoch"], back["arch"], back["best_prec1"]) == (60, "resnet18", 77.25)
    assert set(back["state_dict"]) == set(content["state_dict"])
    assert all(torch.equal(back["state_dict"][key], value) for key, value in content["state_dict"].items())


def test_from_one_order_to_the_other(convert, file):
    assert convert("in.pth", "old.pth", "--to", "fast_mpn_cov", "--order", "upper", "--write-order", "lower")[0] == 0
    assert convert("old.pth", "new.pth", "--to", "fast_mpn_cov", "--order", "lower")[0] == 0
    first, old, new = (read_checkpoint(name).state for name in ("in.pth", "old.pth", "new.pth"))
    assert all(torch.equal(first[key], new[key]) for key in first)
    assert [key for key in first if not torch.equal(first[key], old[key])] == ["fc.weight"]


def test_what_is_dropped_is_said(convert, here):
    content, _ = foreign.build("differentiable_svd")
    content["state_dict"]["module.stray"] = torch.zeros(1)
    torch.save(content, here / "in.pth.tar")
    code, out, _ = convert("in.pth.tar", "out.pt")
    assert code == 0 and facts(out)["left out"] == "stray, the state of the optimizer"


@pytest.fixture
def labelled(here):
    """Write images by class, and a file of either order whose classifier knows them all."""

    def labelled(order, count=20):
        generator = np.random.default_rng(0)
        paths, labels = [], []
        for number in range(count):
            label = number % 4
            place = here / "labelled" / f"class {label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(place / f"{number}.png")
            paths.append(str(place / f"{number}.png"))
            labels.append(label)
        images = FileSet(paths, labels, create_transform("none", "random_resized_crop", SIZE, 3), 3)
        content, _ = foreign.build("fast_mpn_cov", classes=4, order=order)
        x = images.normalize(images.read(range(count))[0])
        x = torch.relu(foreign.norm(content, "layer_reduce_bn", torch.nn.functional.conv2d(
            foreign.resnet_map(content, x, 1), content["layer_reduce.weight"])))  # fmt: skip
        pooled = foreign.triangle(foreign.newton_schulz(x), order)
        pooled = torch.cat([pooled, torch.ones(count, 1, dtype=torch.float64)], 1)
        wanted = torch.nn.functional.one_hot(torch.tensor(labels), 4).double()
        solution = torch.linalg.lstsq(pooled, wanted, driver="gelsd").solution.float()
        content["fc.weight"], content["fc.bias"] = solution[:-1].T.contiguous(), solution[-1]
        torch.save(content, here / "in.pth")

    return labelled


@pytest.mark.parametrize("order", ["upper", "lower"])
def test_labelled_images_tell_the_order(convert, labelled, order):
    labelled(order)
    code, out, err = convert("in.pth", "out.pt", "--data", "labelled", "--image-size", SIZE)
    assert code == 0, err
    right = {"upper": "20 of 20 images right as upper", "lower": "20 as lower"}[order]
    assert facts(out)["order"].startswith("not told") and f"order       {order}: " in out and right in out
    saved = checkpoint.load("out.pt")
    assert saved["source"]["order"] == order and saved["classes"] == [f"class {label}" for label in range(4)]


def test_images_that_do_not_tell(convert, labelled, here):
    labelled("upper")
    answer = convert("in.pth", "out.pt", "--data", "labelled", "--image-size", SIZE, "--images", 2)
    assert answer[0] == 2 and "the images do not tell the order" in answer[2] and not (here / "out.pt").exists()


def test_a_converted_file_is_scored_like_a_run(convert, evaluate, uninterrupted):
    assert convert(uninterrupted, "copy.pt")[0] == 0
    ours, copy = (evaluate("--checkpoint", str(path)) for path in (uninterrupted / "best.pt", "copy.pt"))
    assert copy.code == 0, copy.err
    assert copy.out.splitlines()[1:] == ours.out.splitlines()[1:]  # but for the name of the file


def test_classes_of_other_data_are_refused(convert, labelled, evaluate, image_folder):
    labelled("lower")
    assert convert("in.pth", "out.pt", "--data", "labelled", "--image-size", SIZE)[0] == 0
    answer = evaluate("--checkpoint", "out.pt", "data.name=folder", f"data.root={image_folder}", "data.image_size=96")
    assert answer.code == 2 and re.search(r"out\.pt .* 4 classes.* 2\b", answer.err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.pth"], r"IN and OUT.* 1 of them"),
        ([], r"IN and OUT.* 0"),
        (["in.pth", "in.pth"], r"another name"),
        (["in.pth", "small.yaml"], r"small.yaml exists; replace it by --force"),
        (["in.pth", "nowhere/out.pt"], r"nowhere/out.pt .*folder"),
        (["in.pth", "."], r"is not a file in a folder"),
        (["on.pth", "out.pt"], r"on.pth: .*in.pth\?"),
        (["in.pth", "out.pt", "--to", "fast_mpn"], r"to 'fast_mpn'.*'fast_mpn_cov'"),
        (["in.pth", "out.pt", "--order", "uper"], r"order 'uper'.*'upper'"),
        (["in.pth", "out.pt", "--order", "auto"], r"--order auto needs labelled images"),
        (["in.pth", "out.pt", "--write-order", "lower"], r"--write-order is for the layouts of others"),
        (["in.pth", "out.safetensors", "--to", "fast_mpn_cov"], r"the layouts of others are files of torch"),
        (["in.pth", "out.pt", "--backbone", "resnet50"], r"not .*weights.*'resnet50'"),
        (["in.pth", "out.pt", "--backbone", "resnet5O"], r"backbone 'resnet5O'.*'resnet50'\?"),
        (["in.pth", "out.pt", "--head", "svd_pad"], r"head 'svd_pad'.*'svd_pade'"),
        (["in.pth", "out.pt", "--head", "average"], r"does not fit resnet18 with head average"),
        (["in.pth", "out.pt", "--data", "nofolder"], r"no folder nofolder"),
        (["in.pth", "out.pt", "--data", "digits"], r" 10 classes.* 5: another data set"),
        (["in.pth", "out.pt", "--data", "images", "--image-size", "0"], r"--image-size is '0'"),
        (["in.pth", "out.pt", "--last-stride", "3"], r"unknown last-stride '3'. .*Known: 1, 2"),
        (["in.pth", "out.pt", "--froce"], r"flag '--froce'.*'--force'"),
        (["--inspect"], r"one file is inspected at a time"),
        (["--inspect", "small.yaml"], r"small.yaml cannot be read: it is a text file"),
    ],
)
def test_faults_are_one_message(convert, file, here, words, message):
    before = {place.name for place in here.iterdir()}
    code, _, err = convert(*words)
    assert code == 2 and err.startswith("error: ") and err.count("error: ") == 1
    assert re.search(message, err), err
    assert {place.name for place in here.iterdir()} == before


def test_force_replaces_one_file_and_no_other(convert, file, here):
    for name in ("out.pt", "out-1.pt"):
        (here / name).write_text("mine")
    assert convert("in.pth", "out.pt", "--order", "upper", "--force")[0] == 0
    assert (here / "out-1.pt").read_text() == "mine" and checkpoint.load("out.pt")["model"]


def test_a_refusal_of_the_system_leaves_the_old_file(convert, file, here, monkeypatch):
    (here / "out.pt").write_text("mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    code, _, err = convert("in.pth", "out.pt", "--order", "upper", "--force")
    assert code == 2 and "No space left" in err and (here / "out.pt").read_text() == "mine"
    assert not list(here.glob(".out*"))


def test_numpy_numbers_by_flag(convert, here):
    content, _ = foreign.build("differentiable_svd")
    torch.save(content | {"best_prec1": np.float64(71.5)}, here / "in.pth.tar")
    code, _, err = convert("in.pth.tar", "out.pt")
    assert code == 2 and "--numpy-scalars" in err
    assert convert("in.pth.tar", "out.pt", "--numpy-scalars", "--order", "upper")[0] == 0
    assert checkpoint.load("out.pt")["source"]["best_prec1"] == 71.5


def test_a_run_folder_and_back_to_a_layout(convert, uninterrupted, here):
    code, out, _ = convert("--inspect", uninterrupted)
    told = facts(out)
    assert code == 0 and (told["backbone"], told["head"], told["d"]) == ("resnet8_cifar", "svd_pade", "8")
    assert told["epoch"].isdecimal() and told["classes"] == "10"
    code, out, _ = convert(uninterrupted, "copy.safetensors")
    assert code == 0
    ours = checkpoint.load(uninterrupted / "best.pt")
    copy = read_checkpoint("copy.safetensors")
    assert copy.about["classes"] == ours["classes"] and copy.about["config"] == ours["config"]
    assert all(torch.equal(copy.state[key], value) for key, value in ours["model"].items())
    code, _, err = convert(uninterrupted, "copy.pth.tar", "--to", "differentiable_svd")
    assert code == 2 and re.search("cannot be written .*'differentiable_svd'", err)


def test_the_script_says_how(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "--inspect IN" in done.stdout and "fast_mpn_cov" in done.stdout
