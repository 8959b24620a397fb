"""A training run small enough to be repeated many times, and comparison of where two runs stand."""

import multiprocessing
import traceback
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from gcp.data import Loader
from gcp.data.images import TensorSet
from gcp.engine import rng
from gcp.engine.callback import Callback
from gcp.engine.device import create_scaler
from gcp.engine.distributed import Group
from gcp.engine.optimizer import create_optimizer
from gcp.engine.state import EMA, TrainingState
from gcp.engine.step import StepOptions
from gcp.engine.train import Events, fit
from gcp.heads import create_head
from gcp.models import Classifier

CLOCKS = ("seconds", "images_per_second", "waited", "data_wait")
CPU = torch.device("cpu")


class Shift:
    """Augmentation by seed: a brightness, so that a batch augmented differently trains differently."""

    def normalize(self, images):
        """Images in the type that they have, float64 too."""
        return images

    def __call__(self, images, seeds):
        if seeds is None:
            return images
        shifts = torch.from_numpy((seeds % np.uint64(997)).astype(np.float64) / 997)
        return images + shifts.to(images)[:, None, None, None]


class Watch(Callback):
    """A callback made of functions: `before` and `after` a step, both of the state, and columns of the table."""

    name = "watch"

    def __init__(self, before=None, after=None, columns=None):
        self.before, self.after, self.of_epoch = before, after, columns

    def before_step(self, state, window, log):
        if self.before:
            self.before(state)

    def after_step(self, state, sums, log):
        if self.after:
            self.after(state)

    def columns(self, state):
        return self.of_epoch(state) if self.of_epoch else {}


class Toy:
    """Twenty images of 2 x 6 x 6 in three classes; three epochs of four steps, the last window incomplete."""

    epochs = 3
    steps = 4
    Watch = Watch
    step_options = StepOptions(accumulate=2, label_smoothing=0.1, mixup=0.4, cutmix=0.5, clip=1.0, seed=3)

    def dataset(self, count=20, dtype=torch.float32):
        generator = torch.Generator().manual_seed(count)
        images = torch.randn(count, 2, 6, 6, generator=generator, dtype=dtype)
        labels = torch.arange(count) % 3
        images += labels[:, None, None, None]
        return TensorSet(images, labels.tolist(), Shift())

    def loader(self, count=20, batch=3, train=True, dtype=torch.float32):
        return Loader(self.dataset(count, dtype), batch, train=train, seed=1)

    def model(self, *between, norm=True, dropout=0.3, head="svd_pade"):
        """`between`: modules put behind the convolution."""
        layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), *between, nn.ReLU()]
        pooling = create_head(head, 4)
        return Classifier(nn.Sequential(*layers), pooling, nn.Linear(pooling.out_features, 3), 3, dropout)

    def state(self, model=None, seed=0, optimizer="sgd", ema=0.9, lr=0.05):
        rng.seed_all(seed)
        model = model or self.model()
        parts = ("features", "head", "classifier")
        groups = [{"name": part, "params": list(getattr(model, part).parameters())} for part in parts]
        optimizer = create_optimizer([group for group in groups if group["params"]], optimizer, lr, weight_decay=1e-3)
        return TrainingState(model, optimizer, create_scaler(CPU, "none"), EMA(model, ema) if ema else None)

    def factor(self, step):
        return 1 / (1 + step)

    def train(self, state, events=None, loader=None, step_options=None, epochs=None):
        return fit(
            state,
            loader or self.loader(),
            step_options or self.step_options,
            self.factor,
            epochs or self.epochs,
            CPU,
            events or Events(),
        )


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def where():
    """A function: everything a run consists of at this moment, random states included, clocks left out."""

    def snapshot(state):
        copy = deepcopy(state.state_dict())
        for row in (copy["progress"], *copy["progress"]["history"]):
            for clock in CLOCKS:
                row.pop(clock, None)
        return copy

    return snapshot


def differences(first, second, path="state"):
    """Places where two nested states are not the same to the last bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if type(first) is not type(second):
        return [f"{path}: {type(first)} and {type(second)}"]
    if isinstance(first, dict):
        if list(first) != list(second):
            return [f"{path}: {list(first)} and {list(second)}"]
        return [fault for key in first for fault in differences(first[key], second[key], f"{path}.{key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [f"{path}: lengths {len(first)} and {len(second)}"]
        pairs = enumerate(zip(first, second, strict=True))
        return [fault for place, pair in pairs for fault in differences(*pair, f"{path}[{place}]")]
    return [] if first == second else [f"{path}: {first} and {second}"]


@pytest.fixture
def compare():
    return differences


@pytest.fixture
def together(tmp_path):
    """Calls `body(group)` in real processes that speak by gloo and returns their answers by rank.

    They are forked, so that a body can be written in the test; the first fault of one is raised.
    """
    context, started = multiprocessing.get_context("fork"), []

    def run(world, body, timeout=60):
        pipes = [context.Pipe(False) for _ in range(world)]
        path = str(tmp_path / f"store-{len(started)}")
        for rank, (_, write) in enumerate(pipes):
            started.append(context.Process(target=_become, args=(Group(rank, world, rank), path, body, write)))
            started[-1].start()
        answers = []
        for read, _ in pipes:
            assert read.poll(timeout), "a process did not answer"
            answers.append(read.recv())
        for fine, answer in answers:
            assert fine, answer
        return [answer for _, answer in answers]

    yield run
    for process in started:
        process.kill()
        process.join()


def _become(group, path, body, pipe):
    torch.set_num_threads(1)  # MKL's number too: its threads of the parent do not exist here
    try:
        store = dist.FileStore(path, group.world)
        dist.init_process_group("gloo", store=store, rank=group.rank, world_size=group.world)
        answer = (True, body(group))
        dist.barrier()
    except BaseException:
        answer = (False, traceback.format_exc())
    pipe.send(answer)
