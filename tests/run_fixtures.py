"""A run small enough to be made many times, the commands inside this process, and processes that can be killed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import gcp.cli.evaluate
import gcp.cli.train
from gcp.cli.main import run
from gcp.config.plugins import PLUGINS, plugins

ROOT = Path(__file__).parents[1]

# 40 images in 5 batches, 3 steps an epoch, 9 in all. Everything that has a state of its own takes part: average,
# mixing, accumulation with an incomplete last window, dropout, warm-up.
SMALL = """\
run: {threads: 1, device: cpu}
data: {image_size: 8, in_chans: 1, per_class: 4}
model: {backbone: resnet8_cifar, dropout: 0.2}
head: {name: svd_pade, dim: 8}
optim: {lr: 0.05, momentum: 0.9}
schedule: {warmup: 2 steps}
train: {epochs: 3, batch_size: 8, accumulate: 2, ema: 0.9, mixup: 0.2}
checkpoint: {every: 2 steps, keep: 3}
"""


def needs(callback: str) -> pytest.MarkDecorator:
    """Mark of a test that needs the folder of a callback, of which it is no test."""
    plugins()
    return pytest.mark.skipif(callback not in PLUGINS, reason=f"gcp.callbacks.{callback} is not there")


class Answer(NamedTuple):
    """What a command gave: exit code and text."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def small_text():
    """The configuration of the small run."""
    return SMALL


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of the test as the working folder, with `small.yaml` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def train(here, capsys, monkeypatch):
    """Call train.py's command in this process, without the picture, which takes longer than the run."""
    monkeypatch.setattr("gcp.drawing.curves.draw_curves", lambda *_: None)
    return lambda *words: Answer(run(gcp.cli.train.main, list(words)), *capsys.readouterr())


@pytest.fixture
def evaluate(here, capsys):
    """Call evaluate.py's command in this process."""
    return lambda *words: Answer(run(gcp.cli.evaluate.main, list(words)), *capsys.readouterr())


@pytest.fixture
def small(train):
    """Call train.py's command on the small run in this process."""
    return lambda *words: train("--config", "small.yaml", *words)


@pytest.fixture
def refused():
    """Check that an answer is one clear error without a traceback, and return its text."""

    def refused(answer: Answer) -> str:
        assert answer.code == 2, answer
        assert answer.err.startswith("error: ") and answer.err.count("error: ") == 1
        assert "Traceback" not in answer.err
        return answer.err.removeprefix("error: ").strip()

    return refused


@pytest.fixture
def spawn():
    """Start `python train.py WORDS` or `python evaluate.py WORDS` as a process of its own."""

    def spawn(script: str, *words: str, **options: object) -> subprocess.Popen:
        command, pipe = [sys.executable, script if script == "-c" else str(ROOT / script), *words], subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=_environment(), **options)

    return spawn


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _contents(folder: Path) -> dict:
    """All that a finished run leaves, but for times and for what says where and how often it was written."""
    last, best = (torch.load(folder / name, weights_only=True) for name in ("last.pt", "best.pt"))
    for saved in (last, best):
        for section in ("run", "checkpoint", "monitor", "log"):
            saved["config"].pop(section, None)  # a flow has no monitor
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in [*rows, *last["progress"]["history"]]:
        del row["seconds"], row["images_per_second"], row["data_wait"]
    result = json.loads((folder / "result.json").read_text())
    assert result.pop("seconds") > 0 and result.pop("cost")["seconds_per_step"] > 0
    return {"last": last, "best": best, "metrics": rows, "result": result}


def _differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two nests of tensors and plain values differ by a bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, dict) and isinstance(b, dict):
        keys = dict.fromkeys([*a, *b])
        return [d for key in keys for d in _differences(a.get(key, "-"), b.get(key, "-"), f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, pair in enumerate(zip(a, b, strict=True)) for d in _differences(*pair, f"{path}/{i}")]
    return [] if a == b else [f"{path}: {a!r} against {b!r}"]


@pytest.fixture(scope="session")
def same_runs():
    """Check that two finished runs are equal bit for bit: weights, averages, optimizer, random states, table."""

    def check(first: Path | str, second: Path | str) -> None:
        assert _differences(_contents(Path(first)), _contents(Path(second))) == []

    return check


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """The folder of the small run made in one go. Read it, and leave it as it is."""
    place = tmp_path_factory.mktemp("uninterrupted")
    (place / "small.yaml").write_text(SMALL)
    assert run(gcp.cli.train.main, ["--config", f"{place}/small.yaml", f"run.dir={place}", "run.name=whole"]) == 0
    return place / "whole"


class Zygote:
    """Commands in processes that can be killed at a chosen moment: see `zygote.py`."""

    def __init__(self):
        command, pipe = [sys.executable, str(Path(__file__).with_name("zygote.py"))], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=_environment())

    def train(self, folder: Path, *words: str, moment: str | None = None, command: str = "gcp.cli.train") -> Answer:
        """Run train.py's command (or that of another module) in a new process; the exit code is -9 where it was
        killed.
        """
        (code,), out, err = self.together(1, folder, *words, moment=moment, command=command)
        return Answer(code, out, err)

    def together(
        self,
        world: int,
        folder: Path,
        *words: str,
        moment: str | None = None,
        rank: int | None = None,
        command: str = "gcp.cli.train",
    ) -> tuple[list[int], str, str]:
        """The same in several processes, of which that of `rank`, or all, meet the moment: exit codes, out, err."""
        order = {"folder": str(folder), "words": words, "moment": moment, "world": world, "rank": rank}
        order |= {"command": command}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        codes = json.loads(self.process.stdout.readline())
        return codes, (folder / "out").read_text(), (folder / "err").read_text()


@pytest.fixture(scope="session")
def zygote():
    """See `Zygote`."""
    made = Zygote()
    assert made.process.stdout.readline() == "ready\n"
    yield made
    made.process.stdin.close()
    made.process.wait(30)


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of real image files: root/{train,val,test}/{cat,dog}/N.png."""
    generator = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, count in {"train": 8, "val": 2, "test": 3}.items():
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root
