"""evaluate.py: the figures of a run from its checkpoints, and what it refuses."""

import json
import re
import shutil

import pytest
import torch

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
        ([], r"no checkpoint\. Type for example\n  python evaluate\.py --checkpoint runs/NAME/best\.pt\n"),
        (["x"], r"unexpected 'x': a checkpoint or a run is given as --checkpoint x"),
        (["--chekpoint", "x"], r"unknown flag '--chekpoint'\. Did you mean '--checkpoint'\?"),
        (
            ["--checkpoint", "runs/x/bst.pt"],
            r"no checkpoint runs/x/bst\.pt\. runs/x has best\.pt, .* mean 'best\.pt'\?",
        ),
        (["--checkpoint", "y"], r"no run to be found: looked for y and runs/y"),
        (["--checkpoint", "small.yaml"], r"checkpoint small\.yaml is damaged or truncated: File is not a zip file"),
        (["--checkpoint", "x", "split=tst"], r"unknown split 'tst'\. Did you mean 'test'\?"),
        (["--checkpoint", "x", "optim.lr=1"], r"optim\.lr: cannot change in an evaluation; allowed: data\.\*"),
        (["--checkpoint", "x", "data.image_sze=9"], r"data\.image_sze: unknown key.*; did you mean data\.image_size\?"),
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
    assert text == "runs/x/best.pt was trained on 10 classes, the data set has 2"


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], {"model": {}, "format": 99}, {"model": {}, "format": 1}])
def test_foreign_checkpoint(content, here, evaluate, refused):
    torch.save(content, here / "other.pt")
    text = refused(evaluate("--checkpoint", "other.pt"))
    assert re.search(r"is not a checkpoint of this library|newer version|has no configuration", text)


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
