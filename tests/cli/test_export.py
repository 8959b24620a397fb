"""Exporting from the command line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import foreign
import numpy as np
import onnxruntime
import pytest
import torch

import gcp.cli.export
from gcp.cli.main import run
from gcp.data import create_dataset

SCRIPT = Path(__file__).parents[2] / "scripts" / "export.py"


@pytest.fixture
def export(here, capsys):
    """Call the command in this process."""

    def export(*words):
        code = run(gcp.cli.export.main, [str(word) for word in words])
        return code, *capsys.readouterr()

    return export


@pytest.fixture
def finished(uninterrupted, here):
    """A copy of the finished run as runs/x, whose head is svd_pade."""
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return json.loads((here / "runs" / "x" / "result.json").read_text())


def test_the_accuracy_of_the_run(export, finished):
    """From test images to the accuracy by the ONNX file and what is written in it, nothing of ours in between."""
    code, out, err = export("x", "m.onnx")
    assert (code, err) == (0, ""), err
    assert re.search(
        r"head        polar_express in the place of svd_pade: \d\.\de-0\d of the largest logit, 100 %", out
    )
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
    assert about["classes"] == [str(digit) for digit in range(10)] and about["image_size"] == 8
    assert (about["head"], about["trained_head"]) == ("polar_express", "svd_pade")
    images, labels = (test := create_dataset("digits", image_size=8, in_chans=1).test).read(range(len(test)))
    normal = (images.numpy() - np.float32(about["mean"][0])) / np.float32(about["std"][0])
    predicted = session.run(["logits"], {"images": normal.astype(np.float32)})[0].argmax(1)
    assert 100 * (predicted == labels.numpy()).mean() == pytest.approx(finished["test"]["best"]["top1"], abs=0.3)


@pytest.mark.parametrize("name", ["m.pt2", "m.ts"])
def test_the_head_itself(name, export, finished, here):
    code, out, err = export("x", name, "--keep-head")
    assert (code, err) == (0, "") and "in the place of" not in out and "agrees      to " in out
    assert (here / name).is_file()


def test_a_file_of_others_without_its_images(export, here, caplog):
    content, logits = foreign.build("fast_mpn_cov")
    torch.save(content, here / "in.pth")
    code, out, err = export("in.pth", "m.pt2", "data.image_size=64")
    assert code == 0, err
    assert "32 of noise, for want of the data set" in out and "files of 2018" in caplog.text
    images = torch.randn(3, 3, 64, 64)
    got = torch.export.load("m.pt2").module()(images)
    assert torch.allclose(got, logits(images), atol=1e-4)


def test_as_a_process(finished, here):
    words = [sys.executable, str(SCRIPT), "x", "m.ts"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "written     m.ts" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"MODEL and OUT.* 0 of them"),
        (["x"], r"1 of them.*\n  gcp export"),
        (["x", "m.onx"], r"m\.onx.*\.onnx, \.pt2, \.ts.*'\.onnx'"),
        (["x", "no/m.ts"], r"no/m\.ts.*folder"),
        (["y", "m.ts"], r"no run.* y and runs/y"),
        (["x", "there.ts"], r"there\.ts exists; replace it by --force"),
        (["x", "m.ts", "--bund", "1"], r"flag '--bund'.*'--bound'"),
        (["x", "m.ts", "--bound", "no"], r"--bound.*'no'.*above 0"),
        (["x", "m.ts", "--bound", "1e-12"], r"polar_express.*svd_pade.*logits.*--bound"),
        (["x", "m.ts", "--batch", "2.5"], r"--batch.*'2\.5'.*a whole number"),
        (["x", "m.onnx", "--keep-head"], r"--keep-head: ONNX has no eigendecomposition"),
        (["x", "m.ts", "--order", "up"], r"--order.*'up'.*upper, lower"),
        (["x", "m.ts", "optim.lr=1"], r"optim\.lr.* data\.\*, run\.\*"),
        (["x", "m.ts", "--images", "empty"], r"no image in empty"),
    ],
)
def test_mistakes(words, message, export, finished, here):
    (here / "there.ts").write_text("old")
    (here / "empty").mkdir()
    code, _, err = export(*words)
    assert code == 2 and err.startswith("error: ") and err.count("error: ") == 1 and "Traceback" not in err
    assert re.search(message, err), err
    assert (here / "there.ts").read_text() == "old" and not list(here.glob("m.*"))


def test_help(export):
    code, out, _ = export("--help")
    assert code == 0 and "--keep-head" in out
