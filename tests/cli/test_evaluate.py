"""evaluate.py: the figures of a run from its checkpoints, and what it refuses."""

import csv
import json
import re
import shutil

import foreign
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import gcp.cli.convert
from gcp.cli.main import run

SCORES = ("loss", "top1", "top5", "macro", "count")


@pytest.fixture
def finished(uninterrupted, here):
    """A copy of the finished run as runs/x, and its result."""
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return json.loads((here / "runs" / "x" / "result.json").read_text())


@pytest.mark.parametrize(
    ("words", "split", "weights"),
    [
        (["--checkpoint", "runs/x/best.pt"], "test", "best"),
        (["--checkpoint", "runs/x"], "test", "best"),
        (["--checkpoint", "x"], "test", "best"),
        (["checkpoint=x", "evaluate.batch_size=7"], "test", "best"),
        (["--checkpoint", "runs/x/last.pt"], "test", "final"),
        (["--checkpoint", "runs/x/best.pt", "split=val"], "validation", "best"),
    ],
)
def test_figures_of_the_run(words, split, weights, finished, evaluate, here):
    answer = evaluate(*words, "--json", "scores.json")
    assert (answer.code, answer.err) == (0, "")
    scores = json.loads((here / "scores.json").read_text())
    expected = finished[split][weights]
    for key in SCORES:
        assert scores[key] == pytest.approx(expected[key], rel=1e-6), key
    assert scores["averaged_weights"] == (weights == "final")
    assert f"top-1       {expected['top1']:.2f} %\n" in answer.out
    assert f"loss        {expected['loss']:.4f}\n" in answer.out


def test_same_batches_same_bits(finished, evaluate, here):
    assert evaluate("--checkpoint", "x", "--json", "scores.json").code == 0
    scores = json.loads((here / "scores.json").read_text())
    assert {key: scores[key] for key in SCORES} == {key: finished["test"]["best"][key] for key in SCORES}


def test_training_split(finished, evaluate):
    assert "train of digits, 40 images" in evaluate("--checkpoint", "x", "split=train").out


def test_last_checkpoint_of_a_run_that_has_no_best(finished, evaluate, here):
    (here / "runs" / "x" / "best.pt").unlink()
    assert "runs/x/last.pt (averaged weights)" in evaluate("--checkpoint", "x").out


def test_as_a_process(finished, spawn, here):
    with spawn("evaluate.py", "--checkpoint", "x", cwd=here) as process:
        out, error = process.communicate()
    assert (process.returncode, error) == (0, "")
    assert f"top-1       {finished['test']['best']['top1']:.2f} %\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no checkpoint.*\n  gcp evaluate --checkpoint runs/NAME/best\.pt\n"),
        (["nowhere"], r"looked for nowhere and runs/nowhere\b"),
        (["--chekpoint", "x"], r"flag '--chekpoint'.*'--checkpoint'"),
        (
            ["--checkpoint", "runs/x/bst.pt"],
            r"runs/x/bst\.pt\..* has best\.pt, .*'best\.pt'",
        ),
        (["--checkpoint", "y"], r"no run.* y and runs/y"),
        (
            ["--checkpoint", "small.yaml"],
            r"small\.yaml.*damaged.*text file",
        ),
        (["--checkpoint", "x", "split=tst"], r"split 'tst'.*'test'"),
        (["--checkpoint", "x", "optim.lr=1"], r"optim\.lr.* data\.\*"),
        (["--checkpoint", "x", "data.image_sze=9"], r"data\.image_sze.*data\.image_size\?"),
        (["--checkpoint", "x", "run.device=cuda:63"], r"run\.device: cuda:63 was asked for"),
        (["--checkpoint", "x", "data.name=folder", "data.root=no"], r"the folder .*no does not exist"),
        (["--checkpoint", "x", "--json", "no/x.json"], r"cannot write no/x\.json: "),
    ],
)
def test_mistakes(words, message, finished, evaluate, refused):
    text = refused(evaluate(*words))
    assert re.search(message, text), text


@pytest.mark.parametrize("size", [0, 10, 5000, -1])
def test_truncated_checkpoint(size, finished, evaluate, refused, here):
    path = here / "runs" / "x" / "best.pt"
    path.write_bytes(path.read_bytes()[:size])
    assert refused(evaluate("--checkpoint", "x")).startswith("checkpoint runs/x/best.pt is damaged or truncated: ")


def test_checkpoint_with_a_flipped_bit(finished, evaluate, refused, here):
    path = here / "runs" / "x" / "last.pt"
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["model"]["features.body.conv1.weight"]
    content[content.index(weights.numpy().tobytes())] ^= 1
    path.write_bytes(content)
    text = refused(evaluate("--checkpoint", "runs/x/last.pt"))
    assert text.startswith("checkpoint runs/x/last.pt is damaged: record ")
    assert text.endswith("The previous checkpoint is runs/x/last-1.pt.")


def test_checkpoint_of_other_classes(finished, evaluate, refused, image_folder):
    text = refused(evaluate("--checkpoint", "x", "data.name=folder", f"data.root={image_folder}", "data.per_class=1"))
    assert re.search(r"runs/x/best\.pt .* 10 classes.* 2\b", text)


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], {"model": {}, "format": 99}, {"model": {}, "format": 1}])
def test_foreign_checkpoint(content, here, evaluate, refused):
    torch.save(content, here / "other.pt")
    text = refused(evaluate("--checkpoint", "other.pt"))
    assert re.search(r"holds no state dict|newer version|has no configuration", text)


def test_nothing_in_a_file_is_executed(here, evaluate, refused):
    class Trap:
        def __reduce__(self):
            return open, (str(here / "sprung"), "w")

    torch.save({"model": Trap(), "format": 1}, here / "trap.pt")
    assert refused(evaluate("--checkpoint", "trap.pt")).startswith("checkpoint trap.pt cannot be read: ")
    assert not (here / "sprung").exists()


def test_weights_of_another_model(finished, evaluate, refused, here):
    saved = torch.load(here / "runs/x/best.pt", weights_only=True)
    saved["config"]["head"]["dim"] = 4
    torch.save(saved, here / "other.pt")
    text = refused(evaluate("--checkpoint", "other.pt"))
    assert text.startswith("other.pt is of another model: head.reduction.") and len(text.splitlines()) == 1


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_report(finished, evaluate, here):
    answer = evaluate("--checkpoint", "x", "--report", "a/report")
    assert (answer.code, answer.err) == (0, "")
    files = {path.name for path in (here / "a" / "report").iterdir()}
    written = {"per_class.csv", "predictions.csv", "confusion.png", "confused.png", "calibration.png", "scores.json"}
    assert files == written
    samples = table("a/report/predictions.csv")
    labels, predicted = ([int(row[key]) for row in samples] for key in ("label", "class_1"))
    said = np.array([float(row["probability_1"]) for row in samples])
    scores = json.loads((here / "a/report/scores.json").read_text())
    assert scores["top1"] == pytest.approx(100 * accuracy_score(labels, predicted))
    assert scores["macro"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    among = [row["label"] in [row[f"class_{rank}"] for rank in range(1, 6)] for row in samples]
    assert scores["top5"] == pytest.approx(100 * np.mean(among))
    right = np.equal(labels, predicted)
    bins = np.ceil(15 * said).astype(int)
    inside = [bins == number for number in set(bins.tolist())]
    by_hand = sum(abs(right[each].mean() - said[each].mean()) * each.mean() for each in inside)
    assert scores["ece"] == pytest.approx(100 * by_hand, abs=0.02)  # the table has four digits
    classes = table("a/report/per_class.csv")
    assert [int(row["images"]) for row in classes] == np.bincount(labels, minlength=10).tolist()
    assert [int(row["right"]) for row in classes] == np.bincount(np.array(labels)[right], minlength=10).tolist()
    assert "ece         " in answer.out and "(15 bins)" in answer.out and "confused    " in answer.out


def test_compare(finished, evaluate, here):
    answer = evaluate("--checkpoint", "x", "--compare", "runs/x/last.pt", "--report", "r")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads((here / "r" / "comparison.json").read_text())
    assert found["sentence"] in answer.out and found["count"] == 360
    best, final = finished["test"]["best"]["top1"], finished["test"]["final"]["top1"]
    assert found["difference"] == pytest.approx(final - best)
    pairs = found["only_first"], found["only_second"]
    assert found["p"] == pytest.approx(binomtest(pairs[0], sum(pairs), 0.5).pvalue if sum(pairs) else 1.0)


@pytest.mark.parametrize("crops", ["mirror", "ten"])
def test_crops(crops, finished, evaluate, here):
    assert evaluate("--checkpoint", "x", f"evaluate.crops={crops}", "--json", "a.json").code == 0
    many = json.loads((here / "a.json").read_text())
    assert many["crops"] == crops and many["count"] == 360 and many["loss"] != finished["test"]["best"]["loss"]
    words = ["--checkpoint", "x", f"evaluate.crops={crops}", "evaluate.batch_size=7", "--json", "b.json"]
    assert evaluate(*words).code == 0
    assert json.loads((here / "b.json").read_text())["loss"] == pytest.approx(many["loss"], rel=1e-5)


@pytest.fixture
def pictures(here):
    """Images of digits as files, without the data set's help."""
    bunch = load_digits()
    folder = here / "pictures ü" / "below"
    folder.mkdir(parents=True)
    for index in (0, 5, 10):
        image = Image.fromarray((bunch.images[index] * 255 / 16).round().astype(np.uint8))
        image.save((folder if index else folder.parent) / f"{index}.png")
    (folder / "notes.txt").write_text("no image")
    for hidden in (folder.parent / ".ipynb_checkpoints", folder / ".cache" / "deep"):
        hidden.mkdir(parents=True)
        (hidden / "0.png").write_bytes((folder.parent / "0.png").read_bytes())
    return folder.parent


def test_predict(finished, evaluate, here, pictures):
    """Enlarged files come close to the same images of the data set, which are resized in another way."""
    answer = evaluate("--checkpoint", "x", "--predict", str(pictures), "out.csv")
    assert (answer.code, answer.err) == (0, "")
    rows = table("out.csv")
    assert [row["file"] for row in rows] == [str(pictures / name) for name in ("0.png", "below/10.png", "below/5.png")]
    assert evaluate("--checkpoint", "x", "--report", "r").code == 0
    theirs = table("r/predictions.csv")
    for row, index in zip(rows, (0, 2, 1), strict=True):  # test images are every fifth one
        assert row["class_1"] == theirs[index]["class_1"]
        assert float(row["probability_1"]) == pytest.approx(float(theirs[index]["probability_1"]), abs=0.02)
        assert sum(float(row[f"probability_{rank}"]) for rank in range(1, 6)) < 1


def test_maps(finished, evaluate, here, pictures):
    answer = evaluate("--checkpoint", "x", "--cam", str(pictures / "0.png"), str(pictures / "below" / "5.png"))
    assert (answer.code, answer.err) == (0, "") and answer.out == "maps        cam.png\n"
    assert Image.open("cam.png").size == (1040, 295)


def test_a_file_of_others(finished, evaluate, here):
    """The weights of the run under the names of a wrapped model, as safetensors."""
    saved = torch.load(here / "runs/x/best.pt", weights_only=True)
    state = {f"module.{key}": value.contiguous() for key, value in saved["model"].items()}
    save_file(state, here / "w.safetensors")
    words = ["data.name=digits", "data.image_size=8", "--json", "s.json"]
    answer = evaluate("--checkpoint", "w.safetensors", *words)
    assert answer.code == 0, answer.err
    scores = json.loads((here / "s.json").read_text())
    assert {key: scores[key] for key in SCORES} == pytest.approx(
        {key: finished["test"]["best"][key] for key in SCORES}, rel=1e-6
    )


def test_a_converted_file_of_others_and_its_original(here, evaluate):
    """Other names, the lower triangle; digits through a network for photographs say little, but the same."""
    content, _ = foreign.build("fast_mpn_cov", classes=10, order="lower")
    torch.save(content, here / "in.pth")
    assert run(gcp.cli.convert.main, ["in.pth", "out.safetensors", "--order", "lower"]) == 0
    digits = ["data.name=digits", "data.image_size=64", "split=val"]
    original = evaluate("--checkpoint", "in.pth", "--order", "lower", *digits, "--json", "a.json")
    assert original.code == 0, original.err
    assert evaluate("--checkpoint", "out.safetensors", *digits, "--json", "b.json").code == 0
    first, second = (json.loads((here / name).read_text()) for name in ("a.json", "b.json"))
    assert first["head"] == "newton_schulz" and first["backbone"] == "resnet18"
    assert {key: first[key] for key in SCORES} == {key: second[key] for key in SCORES}


def test_a_model_of_timm(here, evaluate):
    """Its own statistics and size, against a plain loop with timm's own transform on files."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2).eval()
    torch.save({"state_dict": model.state_dict(), "arch": "test_resnet"}, here / "t.pth")
    generator = np.random.default_rng(0)
    config = timm.data.resolve_model_data_config(model, use_test_size=True)
    transform = timm.data.create_transform(**config, is_training=False)
    losses = []
    for label, name in enumerate(("cat", "dog")):
        for split in ("train", "val", "test"):
            (here / "images" / split / name).mkdir(parents=True)
            for number in range(2):
                coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
                image = coarse.resize((220, 200), Image.Resampling.BICUBIC)
                image.save(here / "images" / split / name / f"{number}.png")
                if split == "test":
                    with torch.no_grad():
                        logits = model(transform(image)[None])
                    losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([label])).item())
    words = ["--timm", "test_resnet", "--checkpoint", "t.pth", "data.name=folder", "data.root=images", "data.workers=0"]
    answer = evaluate(*words, "--json", "s.json")
    assert answer.code == 0, answer.err
    scores = json.loads((here / "s.json").read_text())
    assert scores["count"] == 4 and scores["image_size"] == 160 and scores["head"] == "its own head"
    assert scores["loss"] == pytest.approx(np.mean(losses), abs=2e-3)  # resized as bytes, not by Pillow
    refused = evaluate("--timm", "test_resnet", "--checkpoint", "t.pth", "data.name=digits")
    assert refused.code == 2 and "t.pth has 2 classes, the data set has 10" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timm", "resnet5o"], r"model of timm 'resnet5o'.*'resnet50'"),
        (
            ["--timm", "test_vit", "--checkpoint", "runs/x/best.pt"],
            r"not .*'test_vit'.*no classifier",
        ),
        (
            ["--checkpoint", "x", "evaluate.crops=tne"],
            r"evaluate\.crops.*'tne'.*one, mirror, ten",
        ),
        (["--checkpoint", "x", "--compare", "z"], r"no run.* z and runs/z"),
        (["--checkpoint", "x", "--compare", "x", "--cam", "a.png"], r"--compare scores two models; leave --predict"),
        (["--checkpoint", "x", "--predict", "nowhere"], r"no folder nowhere of images"),
        (
            ["--checkpoint", "x", "--predict", "small.yaml"],
            r"small\.yaml is a file.*folder",
        ),
        (["--checkpoint", "x", "--predict", "empty"], r"no image in empty: looked for \.jpg"),
        (["--checkpoint", "x", "--predict", "runs", "no/x.csv"], r"cannot write no/x\.csv: --predict needs a file"),
        (["--checkpoint", "x", "--cam", "small.yaml"], r"cannot read the image small\.yaml: "),
        (["--checkpoint", "x", "--report", "small.yaml"], r"cannot make the folder small\.yaml of --report"),
        (["--checkpoint", "x", "--order", "uper"], r"order 'uper'.*'upper'"),
        (["--checkpoint", "x", "--order", "lower"], r"--order.* upper"),
        (["--checkpoint", "plain.pth"], r"plain\.pth.*data\.name=NAME data\.root=FOLDER"),
        (["--checkpoint", "odd.pth", "data.name=digits"], r"odd\.pth.*model.*--timm NAME"),
    ],
)
def test_more_mistakes(words, message, finished, evaluate, refused, here):
    torch.save(dict(foreign.build("torchvision")[0]), here / "plain.pth")
    (here / "empty").mkdir()
    torch.save({"stem.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(4)}, here / "odd.pth")
    text = refused(evaluate(*words))
    assert re.search(message, text), text


def test_crops_of_a_run_count_for_its_test_split_alone(small, finished, evaluate, here):
    answer = small("run.name=m", "evaluate.crops=mirror")
    assert answer.code == 0, answer.err
    result = json.loads((here / "runs/m/result.json").read_text())
    assert result["validation"]["best"] == finished["validation"]["best"]
    assert result["test"]["final"]["loss"] != finished["test"]["final"]["loss"]
    assert evaluate("--checkpoint", "runs/m/last.pt", "--json", "s.json").code == 0
    assert json.loads((here / "s.json").read_text())["loss"] == result["test"]["final"]["loss"]
