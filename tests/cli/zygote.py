"""A process that imports everything once and forks a fresh one for every command, as a shell would start it.

Reads orders as lines of JSON {"folder", "words", "moment"} and answers each with the exit code. A moment,
"module:function:N:before" or ":after", kills the process with SIGKILL around the N-th call of that function:
nothing in it runs after that, as with `kill -9` from outside.
"""

import gc
import importlib
import json
import os
import signal
import sys

import torch.utils.tensorboard  # noqa: F401
import torchvision.transforms.v2  # noqa: F401

import gcp.analysis.curves
import gcp.cli.launch
import gcp.cli.session
import gcp.cli.train
import gcp.config
from gcp.cli.main import run
from gcp.engine.folder import RunFolder


def die(moment: str) -> None:
    """Replace the function by one that ends the process at its N-th call."""
    module_name, name, count, when = moment.split(":")
    module, calls = importlib.import_module(module_name), 0
    original = getattr(module, name)

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == int(count) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*args, **kwargs)
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(module, name, counted)


def become(order: dict) -> None:
    """In the forked process: take the place of `python train.py WORDS` in that folder."""
    os.chdir(order["folder"])
    for name, handle in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), handle)
    if order["moment"]:
        die(order["moment"])
    code = run(gcp.cli.train.main, order["words"])
    sys.stderr.flush()
    os._exit(code)  # taking the interpreter apart would take longer than the run


if __name__ == "__main__":
    gcp.analysis.curves.draw_curves = lambda *_: None  # the picture takes longer than the run
    config = {"model": {"backbone": "resnet8_cifar"}}
    gcp.cli.session.Session(gcp.config.from_dict(config), RunFolder("none"))  # imports what is imported at need
    gc.freeze()  # keeps the memory shared
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
