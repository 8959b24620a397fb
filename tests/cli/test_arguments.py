"""Command lines: flags, their values, and key=value words."""

import pytest

from gcp.cli.arguments import parse, with_checkpoint
from gcp.errors import GCPError

FLAGS = {"--config": (1, 1), "--list": (1, 2), "--heads": (1, 9), "--help": (0, 0)}


def test_flags_and_overrides_in_any_order():
    arguments = parse(["optim.lr=0.1", "--config", "a.yaml", "train.epochs=3"], FLAGS)
    assert arguments.value("--config") == "a.yaml" and arguments.value("--help") is None
    assert arguments.overrides == ["optim.lr=0.1", "train.epochs=3"]


@pytest.mark.parametrize(
    ("words", "flags", "overrides"),
    [
        (["--config=a=b.yaml"], {"--config": ["a=b.yaml"]}, []),
        (["--list", "heads"], {"--list": ["heads"]}, []),
        (["--list", "heads", "svd_*", "a.b=1"], {"--list": ["heads", "svd_*"]}, ["a.b=1"]),
        (["--heads", "a", "b", "--help"], {"--heads": ["a", "b"], "--help": []}, []),
        (["-h"], {"--help": []}, []),
        (["a.b=x=y", "a.b="], {}, ["a.b=x=y", "a.b="]),
        ([], {}, []),
    ],
)
def test_values(words, flags, overrides):
    arguments = parse(words, FLAGS)
    assert (arguments.flags, arguments.overrides) == (flags, overrides)


def test_take_removes_a_word_and_the_last_one_counts():
    arguments = parse(["resume=a", "train.epochs=3", "resume=b"], FLAGS)
    assert arguments.take("resume") == "b" and arguments.take("resume") is None
    assert arguments.overrides == ["train.epochs=3"]
    with pytest.raises(GCPError, match="resume= has no value"):
        parse(["resume="], FLAGS).take("resume")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--confg", "a.yaml"], r"'--confg'.*'--config'.*--config, --heads"),
        (["--lst=heads"], r"flag '--lst'.*'--list'"),
        (["-c", "a.yaml"], r"unknown flag '-c'"),
        (["--out", "a"], r"unknown flag '--out'\. Known"),
        (["--config"], "--config needs a value"),
        (["--config", "optim.lr=1"], "--config needs a value"),
        (["--config", "--help"], "--config needs a value"),
        (["--config="], "--config needs a value"),
        (["--help=yes"], "--help needs no value"),
        (["--config", "a", "--config", "b"], "--config is given twice"),
        (["a.yaml"], "'a.yaml'.* --config a.yaml"),
        (["--config", "a.yaml", "lr"], r"'lr'.* key=value.*optim\.lr=0\.05"),
        (["--config", "a.yaml", "head.name", "seb"], "'head.name'.* key=value.*head.name=seb"),
        (["data.root=/my", "images"], "'images'.*quotes.*'data.root=/my images'"),
        (["train.epochs=1", "a.yaml"], "a configuration is given as --config a.yaml"),
        (["evolve.every=2", "epochs", "optim.lr=1"], "in quotes, as 'evolve.every=2 epochs'"),
    ],
)
def test_faults(words, message):
    with pytest.raises(GCPError, match=message):
        parse(words, FLAGS)


@pytest.mark.parametrize("word", ["runs/x/best.pt", "runs/x"])
def test_a_checkpoint_without_its_flag(word):
    with pytest.raises(GCPError, match=f"unexpected '{word}': .* is given as --checkpoint {word}"):
        parse([word], {"--checkpoint": (1, 1)})


def test_the_model_may_be_the_first_word():
    assert with_checkpoint(["runs/x", "split=val"]) == ["--checkpoint", "runs/x", "split=val"]
    for words in (["--checkpoint", "x"], ["x", "--checkpoint", "y"], ["split=val"], ["--help"], []):
        assert with_checkpoint(words) == words
