"""One run in several processes that speak by gloo: the same result, one voice, one end."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcp.config.plugins import PLUGINS, plugins

SIGKILL = -signal.SIGKILL
UPDATE = "gcp.engine.train:update"
# Average, mixing, accumulation with an incomplete last window, and a switch of heads in the middle of the second epoch.
# No dropout: its draws are those of a process.
WORDS = [
    "--config",
    "small.yaml",
    "model.dropout=0",
    "train.cutmix=0.4",
    "head.name=newton_schulz",
    "evaluate.batch_size=50",
]
plugins()  # finds them
SWITCHES = "hybrid" in PLUGINS
if SWITCHES:
    WORDS += ["hybrid.to=svd_pade", "hybrid.at=4 steps"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_text):
    """A folder with small.yaml for the runs of this file."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "small.yaml").write_text(small_text)
    return folder


@pytest.fixture(scope="module")
def whole(place, zygote):
    """(world) -> the folder of the run that so many processes made in one go."""
    made = {}

    def whole(world):
        if world not in made:
            codes, _, err = zygote.together(world, place, *WORDS, f"run.name=whole-{world}")
            assert codes == [0] * world, err
            made[world] = place / "runs" / f"whole-{world}"
        return made[world]

    return whole


@pytest.fixture
def run(place):
    """The folder of a run named x, gone after the test."""
    yield place / "runs" / "x"
    shutil.rmtree(place / "runs" / "x", ignore_errors=True)


def relative(first, second):
    """The relative difference between the weights, or between the averages, of two runs.

    In float64 it is below 1e-10 (tests/engine/test_processes.py). In float32 a sum that is rounded otherwise takes a
    ReLU over its kink now and then, which the equal pixels of a background do all at once: 5e-5 has been seen.
    """
    one, other = (torch.load(folder / "last.pt", weights_only=True) for folder in (first, second))
    assert one["callbacks"] == other["callbacks"] and bool(one["callbacks"]) == SWITCHES
    assert one["progress"]["step"] == other["progress"]["step"]
    found = []
    for part in ("model", "ema"):
        first, second = (torch.cat([t.double().flatten() for t in run[part].values()]) for run in (one, other))
        found.append(((first - second).norm() / first.norm()).item())
    return max(found)


def table(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file)]


@pytest.mark.parametrize("world", [2, 3])
def test_the_result_is_that_of_one_process(world, whole):
    assert relative(whole(1), whole(world)) < 5e-4
    for mine, theirs in zip(table(whole(world)), table(whole(1)), strict=True):
        for key in ("epoch", "step", "lr_features", "head"):
            assert mine.get(key) == theirs.get(key)
        for key in ("train_loss", "val_loss"):
            assert float(mine[key]) == pytest.approx(float(theirs[key]), rel=1e-4)
    result = json.loads((whole(world) / "result.json").read_text())
    assert result["test"]["final"]["count"] == 360
    assert json.loads((whole(world) / "environment.json").read_text())["processes"] == world


def test_a_batch_with_fewer_images_than_processes(place, run, zygote):
    words = [*WORDS, "train.batch_size=19", "train.accumulate=1", "train.epochs=2"]  # the last batch has two
    codes = [zygote.together(world, place, *words, f"run.name={name}")[0] for world, name in ((1, "x"), (3, "y"))]
    assert codes == [[0], [0, 0, 0]]
    assert relative(run, run.with_name("y")) < 1e-3
    shutil.rmtree(run.with_name("y"))


def test_one_process_writes_and_speaks(place, run, zygote):
    words = [*WORDS, "run.name=x", "train.epochs=1", *(["hybrid.at=1 steps"] if SWITCHES else [])]
    codes, out, err = zygote.together(2, place, *words)
    assert codes == [0, 0] and err == ""
    assert len(re.findall("processes +2, .*4 images.*batch-norm", out)) == 1
    assert out.count("best on validation") == 1
    assert len(list(run.glob("events.out.*"))) == 1


@pytest.mark.parametrize(
    "moment, rank",
    [
        (f"{UPDATE}:3:before", None),
        (f"{UPDATE}:6:after", None),
        (f"{UPDATE}:4:before", 1),
        ("torch:save:3:before", 0),
        ("gcp.runs.classifier:collect:2:before", 1),
    ],
    ids=["group, before a step", "group, after the switch", "rank 1", "rank 0 while it writes", "rank 1 scoring"],
)
def test_killed_and_resumed(moment, rank, place, run, zygote, whole, same_runs):
    found, _, err = zygote.together(2, place, *WORDS, "run.name=x", moment=moment, rank=rank)
    assert found[rank if rank is not None else 0] == SIGKILL and 0 not in found
    assert "Traceback" not in err or rank is not None
    copy = run.with_name("y")
    shutil.copytree(run, copy)
    try:
        assert zygote.together(2, place, "resume=x")[0] == [0, 0]
        same_runs(run, whole(2))
        assert zygote.together(3, place, "resume=y")[0] == [0, 0, 0]
        assert relative(copy, whole(1)) < 5e-4
    finally:
        shutil.rmtree(copy)


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(place, run, zygote, whole, same_runs):
    words = [*WORDS, "run.name=x", "checkpoint.every=100 %"]
    codes, out, _ = zygote.together(2, place, *words, moment=f"{UPDATE}:2:term", rank=1)
    assert codes == [143, 143] and "stopped at step 3. Continue with" in out
    assert torch.load(run / "last.pt", weights_only=True)["progress"]["step"] == 3
    assert zygote.together(2, place, "resume=x")[0] == [0, 0]
    same_runs(run, whole(2))


def test_a_process_that_raises_ends_all_and_is_the_one_that_is_heard(place, run, zygote):
    start = time.monotonic()
    codes, _, err = zygote.together(3, place, *WORDS, "run.name=x", moment=f"{UPDATE}:2:raise", rank=1)
    assert time.monotonic() - start < 30
    assert codes[1] == 1 and 0 not in codes, err
    assert err.startswith("rank 1 of 3 failed:\n") and err.count("Traceback") == 1
    assert "RuntimeError: struck on purpose" in err


def test_a_process_that_stands_still_is_named(place, run, zygote):
    words = [*WORDS, "run.name=x", "run.hang_minutes=0.05"]
    codes, _, err = zygote.together(3, place, *words, moment=f"{UPDATE}:2:sleep", rank=2)
    assert 0 not in codes
    assert err.startswith(
        "error: no step for 3 s; waiting for rank 2. The run is stopped; its last checkpoint is whole.\n"
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["optim.lr=fast"], r"optim\.lr.*'fast'"),
        (["run.device=cuda:1"], r"one GPU.* 2 processes.*run\.device=cuda\b"),
        (["data.name=folder", "data.root=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_told_once(words, message, place, run, zygote):
    codes, _, err = zygote.together(2, place, *WORDS, "run.name=x", *words)
    assert sorted(codes) == [1, 2]
    assert err.count("error: ") == 1 and re.search(message, err) and "Traceback" not in err
    assert not run.exists()


def test_numbers_that_are_not_finite_name_the_process(place, run, zygote):
    codes, _, err = zygote.together(2, place, *WORDS, "run.name=x", "optim.lr=1e30", "optim.clip=null")
    assert sorted(codes) == [1, 2]
    assert err.count("error: ") == 1 and "of 2: training stopped at step" in err and "First non-finite" in err


def test_a_log_of_each_process(place, run, zygote):
    assert zygote.together(2, place, *WORDS, "run.name=x", "run.rank_logs=true")[0] == [0, 0]
    assert "test split" in (run / "rank-1.log").read_text()


def test_statistics_of_each_process_alone(place, run, zygote):
    """Not the result of one process, but the same bits when it is repeated from a checkpoint."""
    words = [*WORDS, "run.sync_batch_norm=false"]
    assert zygote.together(2, place, *words, "run.name=x", moment=f"{UPDATE}:3:before", rank=0)[0][0] == SIGKILL
    assert zygote.together(2, place, "resume=x")[0] == [0, 0]
    assert zygote.together(2, place, *words, "run.name=y")[0] == [0, 0]
    one, other = (torch.load(folder / "last.pt", weights_only=True) for folder in (run, run.with_name("y")))
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])
    shutil.rmtree(run.with_name("y"))


def test_torchrun_restarts_a_run_whose_worker_was_killed(place, run, whole, same_runs):
    """The whole way that a user goes: torchrun, a worker that dies, and the run that is continued by its name."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [str(root / "train.py"), *WORDS, "run.name=x", "resume=auto"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, *words], cwd=place, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        while not (run / "last.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "continuing" in out and "at step" in out
    same_runs(run, whole(2))


def test_the_recipe_for_images_of_ones_own(tmp_path, zygote):
    """`--config finetune` on ROOT/CLASS/*: two processes split, measure, train and score the same model."""
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    words = ["data.root=photos", "data.image_size=32", "data.workers=0", "model.backbone=resnet8_cifar"]
    words += ["model.pretrained=false", "head.dim=8", "train.epochs=2", "train.batch_size=8", "run.threads=1"]
    words += ["run.device=cpu", "run.name=x"]
    codes, out, err = zygote.together(2, tmp_path, "--config", "finetune", *words)
    assert codes == [0, 0], err
    assert out.count("best on validation") == 1 and re.search("processes +2", out)
    folder = tmp_path / "runs" / "x"
    assert json.loads((folder / "result.json").read_text())["test"]["final"]["count"] == 8
    assert len(table(folder)) == 2
    best = torch.load(folder / "best.pt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in best["model"].values())
