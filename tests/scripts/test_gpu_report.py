"""The report of a card: every part is tried on the CPU, and no part takes the others with it."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gpu_report
import pytest

from gcp.cli import gpu_report as command
from gcp.cli.main import run
from gcp.config import load
from tests.config_fixtures import says

SCRIPTS = Path(gpu_report.__file__).parent
ALONE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS}"}
WITHOUT_JSON = ("tests", "digits_gpu", "digits_cpu", "probe_gpu", "probe_cpu", "all_tests")


def test_the_whole_rehearsal(tmp_path):
    """Every part is in both files, with its words, what it printed, and what it measured."""
    program = [sys.executable, Path(__file__).with_name("rehearse.py"), tmp_path]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=400, env=os.environ | ALONE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert str(tmp_path / "report.md") in ended.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["parts"]) == list(gpu_report.PARTS) and report["rehearsal"]
    page = (tmp_path / "report.md").read_text()
    for name, part in report["parts"].items():
        assert part["status"] == "done", part["output"]
        assert ("result" in part) == (name not in WITHOUT_JSON)
        assert name in WITHOUT_JSON or part["result"]["environment"]
        for line in (f"| {part['title']} | done |", f"## {part['title']}", f"$ {part['command']}", part["output"]):
            assert line in page
    assert "no figure counts" in page and "svd_pade over newton_schulz" in page
    for device in ("cuda", "cpu"):
        assert (tmp_path / f"rehearsal-probe-{device}" / "result.json").is_file()


def test_a_part_as_a_process(tmp_path, call):
    code, out, _ = call(gpu_report.main, ["--rehearse", "--out", tmp_path, "--parts", "solvers"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert code == 0 and str(tmp_path / "report.md") in out and list(report["parts"]) == ["solvers"]
    assert report["parts"]["solvers"]["status"] == "done" and report["parts"]["solvers"]["result"]["environment"]


def test_a_part_that_fails_or_hangs_does_not_stop_the_next(tmp_path, monkeypatch):
    part = gpu_report.PARTS["solvers"]
    words = {"fails": ("-c", "raise SystemExit('wrong')"), "hangs": ("-c", "import time; print('on'); time.sleep(99)")}
    words["works"] = ("-c", "print('fine')")
    parts = {name: replace(part, words=word, tiny=(), limit=60) for name, word in words.items()}
    parts["hangs"] = replace(parts["hangs"], limit=2)
    monkeypatch.setattr(gpu_report, "PARTS", parts)
    report = gpu_report.run_parts(list(parts), tmp_path, True, 100)["parts"]
    assert [report[name]["status"] for name in parts] == ["failed", "out of time", "done"]
    assert report["fails"]["output"] == "wrong" and report["works"]["output"] == "fine"
    assert gpu_report.run_parts(["works"], tmp_path, True, 1)["parts"]["works"]["status"] == "not begun"


def test_the_words_of_every_part_are_those_of_its_command():
    """Those of the card too, which no rehearsal runs: the configurations of the parts that train are read."""
    for name in ("digits_gpu", "digits_cpu", "probe_gpu", "probe_cpu"):
        part = gpu_report.PARTS[name]
        for own in (part.sizes, part.tiny):
            words = [word for word in (*part.words[5:], *own) if word != "run.dir={out}"]
            config = load("configs/digits/resnet.yaml", words)
            assert config.train.cache_features == name.startswith("probe")


@pytest.mark.parametrize("words, wanted", [(["--parts", "gaols"], "gaols goals"), ([], "GPU --rehearse")])
def test_what_cannot_be(words, wanted, tmp_path, call, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    code, _, error = call(gpu_report.main, ["--out", tmp_path, *words])
    assert code == 2 and says(error, wanted)


def test_the_command_runs_the_script_of_its_checkout(monkeypatch, tmp_path, capsys):
    called = []
    monkeypatch.setattr(command.subprocess, "call", lambda words: called.append(words) or 1)
    assert run(command.main, ["--parts", "goals"]) == 1
    assert called == [[sys.executable, gpu_report.__file__, "--parts", "goals"]]
    monkeypatch.setattr(command, "ROOT", tmp_path)  # as where the package alone is installed
    assert run(command.main, ["--rehearse"]) == 2 and len(called) == 1
    error = capsys.readouterr().err
    assert says(error, "tests/gpu git clone") and "bash scripts/gpu_report.sh" in error and error.count("\n") == 1


def test_the_flags_of_the_command_are_those_of_the_script(capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--help"])
    flags = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert flags == {"--help", *re.findall(r"--\w+", command.USAGE)}


def test_an_interrupted_part_is_ended(monkeypatch, tmp_path):
    """It is in a session of its own, which Ctrl-C does not reach."""
    begun = []

    class Interrupted(subprocess.Popen):
        def communicate(self, *args, **kwargs):
            begun.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(gpu_report.subprocess, "Popen", Interrupted)
    part = replace(gpu_report.PARTS["solvers"], words=("-c", "import time; time.sleep(99)"), tiny=())
    with pytest.raises(KeyboardInterrupt):
        gpu_report.run_part("solvers", part, tmp_path, True, 50)
    assert begun[0].wait(20) == -signal.SIGKILL
    begun[0].stdout.close()
