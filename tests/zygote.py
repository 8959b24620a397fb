"""A process that imports everything once and forks a fresh one for every command, as a shell would start it.

Reads orders as lines of JSON {"folder", "words", "moment", "world", "rank", "command"} and answers each with the exit
codes of the `world` processes of the command, the `main` of that module. A moment, "module:function:N:before" or
":after", kills the process of that rank, or all, with SIGKILL around the N-th call of that function: nothing in it runs
after that, as with `kill -9` from outside. With ":raise", ":sleep" or ":term" the process raises, stands still, or gets
SIGTERM instead.
"""

import gc
import importlib.util
import json
import os
import signal
import socket
import sys
import time
from pkgutil import iter_modules

import torch.utils.tensorboard  # noqa: F401
import torchvision.transforms.v2  # noqa: F401

import gcp.callbacks.base
import gcp.cli.train
import gcp.cli.train_glow
import gcp.config
import gcp.drawing.curves
import gcp.drawing.strips
import gcp.runs.classifier
import gcp.runs.launch
import gcp.studies.pool
import gcp.studies.report
from gcp.cli.main import run
from gcp.engine.checkpoint import Writer
from gcp.engine.folder import RunFolder


def strike(what: str) -> None:
    """Do to this process what a moment says."""
    if what == "raise":
        raise RuntimeError("struck on purpose")
    if what == "sleep":
        time.sleep(1000)
    os.kill(os.getpid(), signal.SIGTERM if what == "term" else signal.SIGKILL)


def die(moment: str) -> None:
    """Replace the function by one that strikes at its N-th call."""
    module_name, name, count, when = moment.split(":")
    module, calls = importlib.import_module(module_name), 0
    original = getattr(module, name)

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == int(count) and when != "after":
            strike(when)
        answer = original(*args, **kwargs)
        if calls == int(count) and when == "after":
            strike(when)
        return answer

    setattr(module, name, counted)


def become(order: dict, rank: int, port: int) -> None:
    """In the forked process: take the place of the command, such as `python train.py WORDS`, in that folder."""
    os.chdir(order["folder"])
    for name, handle in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), handle)
    if order["moment"] and order["rank"] in (None, rank):
        die(order["moment"])
    if order["world"] > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": order["world"], "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in places.items()}, MASTER_ADDR="127.0.0.1")
    code = run(importlib.import_module(order["command"]).main, order["words"])
    sys.stderr.flush()
    os._exit(code)  # taking the interpreter apart would take longer than the run


def obey(order: dict) -> list[int]:
    """The exit codes of the processes by rank."""
    if order["moment"]:  # a name that is not there would end one process, and the others would wait for it
        module, name = order["moment"].split(":")[:2]
        getattr(importlib.import_module(module), name)
    for name in ("out", "err"):
        open(os.path.join(order["folder"], name), "w").close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(order["world"]):
        pids.append(os.fork())
        if not pids[-1]:
            become(order, rank, port)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def write_at_once() -> None:
    """Checkpoints are written before the training goes on, so that a moment always finds the same files."""
    submit = Writer.submit

    def submit_and_wait(self: Writer, *args: object) -> None:
        submit(self, *args)  # type: ignore[arg-type]
        self.wait()

    Writer.submit = submit_and_wait  # type: ignore[method-assign]


if __name__ == "__main__":
    write_at_once()
    gcp.studies.pool.METHOD = "fork"  # the cells of a study come from its process, which has everything imported
    gcp.drawing.curves.draw_curves = lambda *_: None  # the pictures take longer than the run
    for folder in iter_modules(gcp.callbacks.__path__, "gcp.callbacks."):
        if folder.ispkg and importlib.util.find_spec(f"{folder.name}.plot"):
            importlib.import_module(f"{folder.name}.plot").draw = lambda *_: None
    gcp.drawing.strips.draw_strips = lambda *_: None
    gcp.studies.report.write_report = lambda folder: folder / "report.html"
    config = gcp.config.from_dict({"model": {"backbone": "resnet8_cifar"}})
    gcp.runs.classifier.ClassifierRun(config, RunFolder("none"))  # imports what is imported at need
    gc.freeze()  # keeps the memory shared
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(obey(json.loads(line))), flush=True)
