"""`gcp` and its commands, and how a command ends."""

import errno
import re
import sys

import pytest
import torch

from gcp.cli.main import COMMANDS, gcp, run
from gcp.command import SCRIPTS, as_typed
from gcp.errors import ConfigError, GCPError


def command(error=None, code=None):
    def main(argv):
        if error is not None:
            raise error
        print("argv", *argv)
        return code

    return main


def test_success(capsys, monkeypatch):
    assert run(command(), ["a", "b=1"]) == 0
    assert run(command(code=143), []) == 143
    monkeypatch.setattr(sys, "argv", ["train.py", "x"])
    assert run(command()) == 0
    assert capsys.readouterr() == ("argv a b=1\nargv\nargv x\n", "")


def test_orders_to_the_terminal_are_shown_and_not_obeyed(capsys):
    """Names of classes and files come from elsewhere."""
    name = "a\x1b[31mb\x9b2Jc\u202ed\x07 \u4e2d\u200dé\t\r\x1b[K"
    shown = "a\\x1b[31mb\\x9b2Jc\\u202ed\\x07 \u4e2d\u200dé\t\r\x1b[K"
    assert run(lambda argv: print(name)) == 0
    assert run(command(GCPError(name)), []) == 2
    assert capsys.readouterr() == (f"{shown}\n", f"error: {shown}\n")


LOWER = "Lower train.batch_size, evaluate.batch_size, data.workers, data.image_size, head.dim or model.hidden.\n"


def _refused_memory():
    """What torch raises where the CPU has not so much memory."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    return caught.value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GCPError("no such thing"), "error: no such thing\n"),
        (ConfigError(["a: x", "b: y"], "z.yaml"), "error: 2 faults in z.yaml:\n  a: x\n  b: y\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "error: [Errno 28] No space left on device: 'x'\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "error: [Errno 13] Permission denied: 'x'\n"),
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. More."),
            "error: CUDA out of memory. Lower train.batch_size (and raise train.accumulate) or data.image_size.\n",
        ),
        (MemoryError(), f"error: the memory of this machine is full. {LOWER}"),
        (_refused_memory(), f"error: the memory of this machine is full: 3,725,290.3 GiB were asked for. {LOWER}"),
    ],
)
def test_a_fault_of_the_user_is_a_message_and_code_2(error, message, capsys):
    assert run(command(error), []) == 2
    assert capsys.readouterr() == ("", message)


def test_interrupted(capsys):
    assert run(command(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError(errno.EIO, "x")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(command(error), [])


def test_the_commands_fit_on_a_screen(capsys):
    assert run(gcp, []) == run(gcp, ["--help"]) == run(gcp, ["help"]) == 0
    out = capsys.readouterr().out
    text = out[: len(out) // 3]
    assert out == 3 * text and all(
        f"\n  {name} " in text and summary in text for name, (_, summary) in COMMANDS.items()
    )
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name, capsys):
    assert run(gcp, [name, "--help"]) == 0
    assert f"gcp {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "command 'trian'.*'train'"),
        (["ablation"], r"'ablation'.*'ablate'\?"),
        (["check_dataset"], r"'check_dataset'.*'check'\?"),
        (["train_glow"], r"'train_glow'.*'train-glow'\?"),
        (["--config", "x"], "command.*first.* gcp train"),
        (["head.name=svd_pade"], "the command comes first"),
        (["list", "recipe"], r"'recipe'.*'recipes'\?"),
        (["train", "--confg", "x"], r"'--confg'.*'--config'\?"),
        (["predict", "x"], "needs MODEL and FOLDER.*\n  gcp predict x photos\n"),
        (["predict", "x", "y", "--csv=z"], "'--csv'.*\n  gcp predict x y z\n"),
        (["evaluate", "x", "--predict"], "--predict needs a value.*\n  gcp evaluate runs/NAME --predict photos\n"),
        (["train", "finetune"], "'finetune'.*--config finetune"),
        (["train", "--config", "finetune", "/"], "'/'.*data.root=/"),
        (["evaluate", "x", "y"], "'y'.*--predict y.*data.root=y"),
        (["evaluate", "x", "--predict", "y", "z", "w"], "'w'.*spaces.*quotes"),
        (["export", "x", "--out", "y.onnx"], "'--out'.*\n  gcp export x y.onnx\n"),
        (["evaluate", "x", "--cam", "/"], "/ is a folder; --cam takes images"),
        (["evaluate", "x", "--json", "no/such/y.json"], "no/such/y.json: --json .*mkdir -p no/such"),
        (["export", "x", "no/y.onnx"], "no/y.onnx: OUT .*mkdir -p no"),
        (["export", "y.onnx", "x"], "model.*first.*\n  gcp export x y.onnx\n"),
        (["compress", "x", "0.5"], "'0.5'.*--params 0.5"),
        (["compress", "x", "--params", "25"], r"allowed: above 0.*--params 0\.25"),
    ],
)
def test_a_mistyped_command(words, message, capsys):
    assert run(gcp, words) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("error: ") and re.search(message, error)


def test_version(capsys):
    assert run(gcp, ["--version"]) == 0
    assert capsys.readouterr().out.startswith("gcp 0.")


def test_help_needs_no_torch(spawn):
    """Nor anything else that takes long to import."""
    script = (
        "import sys; from gcp.cli.main import gcp; gcp(sys.argv[1:]); print(sorted({'torch', 'yaml'} & {*sys.modules}))"
    )
    for words in ([], ["--version"], *([name, "--help"] for name in ("ablate", "check", "export", "report"))):
        with spawn("-c", script, *words) as process:
            out, error = process.communicate()
        assert (process.returncode, error) == (0, "") and out.endswith("[]\n")


@pytest.mark.parametrize("script", [script for script in SCRIPTS.values() if " " not in script])
def test_scripts_are_aliases(script, request):
    name = next(name for name, other in SCRIPTS.items() if other == script)
    text = (request.config.rootpath / script).read_text()
    assert f'entry("{name}")' in text and name in COMMANDS


def test_a_reader_that_leaves(spawn):
    """`python train.py --list heads | head -1` is no fault."""
    with spawn("train.py", "--list", "heads") as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")


def test_as_a_process(spawn):
    """What only a real process shows: the exit code, and stderr without a traceback."""
    with spawn("train.py", "--confg", "x") as process:
        out, error = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert re.search(r"^error: .*'--confg'.*'--config'\?", error) and error.count("\n") == 1


def test_every_command_is_named_as_it_was_called(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/gcp/__main__.py"])
    for command in COMMANDS:
        assert as_typed(f"type gcp {command} x") == f"type python -m gcp {command} x"


def test_a_word_that_is_nearly_one_of_the_command(capsys):
    assert run(gcp, ["evaluate", "--checkpoint", "x", "splitt=val"]) == 2
    assert "Did you mean 'split'?" in capsys.readouterr().err
    assert run(gcp, ["--verison"]) == 2
    assert "Did you mean '--version'?" in capsys.readouterr().err
