"""`gcp demo`: what it refuses, without gradio; and the page as it is served, where gradio is installed
(`pip install '.[demo]'; pytest tests/cli/test_demo.py`).
"""

import builtins
import json
import shutil
import socket
import urllib.request

import pytest
from PIL import Image

import gcp
from gcp.cli.demo import main
from gcp.cli.main import run
from gcp.engine.distributed import ALONE
from gcp.errors import DataError, GCPError
from gcp.evaluation.page import USUAL, examples_of, free_port
from gcp.runs.open_model import open_model


@pytest.fixture
def finished(uninterrupted, here):
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return here / "runs" / "x"


@pytest.fixture
def absent(monkeypatch):
    """The package gradio is not installed."""
    find = builtins.__import__

    def find_all_but(name, *arguments, **words):
        if name == "gradio":
            raise ModuleNotFoundError("No module named 'gradio'", name="gradio")
        return find(name, *arguments, **words)

    monkeypatch.setattr(builtins, "__import__", find_all_but)


def test_without_the_package(absent, capsys):
    assert run(main, ["runs/x"]) == 2
    assert capsys.readouterr().err.startswith("error: the page needs the package gradio: pip install '")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "80"], r"'--port': the model comes first"),
        (["x", "y"], r"unexpected 'y'"),
        (["x", "--prot", "80"], r"'--prot'.*--port"),
        (["x", "--port", "0"], r"--port is '0'; allowed: a whole number from 1 to 65535"),
        (["x", "--port", "http"], r"--port is 'http'"),
        (["x", "--share"], r"'--share'"),
        (["x", "optim.lr=1"], r"optim\.lr: cannot change in a demo"),
    ],
)
def test_words_that_do_not_fit(words, message):
    with pytest.raises(GCPError, match=message):
        main(words)


def test_help(capsys):
    assert main([]) == 0 and "--examples FOLDER" in capsys.readouterr().out


def test_images_to_begin_with(finished, tmp_path):
    """Test images of the data set where it is at hand, or those of a folder."""
    model = open_model(str(finished), ["run.threads=null"], ALONE, scored=False)
    paths = examples_of(model, None, tmp_path)
    assert len(paths) == 12 and Image.open(paths[0]).size == (8, 8)
    best = gcp.load(str(finished), device="cpu").predict(paths)
    test = model.splits().test
    with_places = [test.read([int(path.rpartition("-")[2].removesuffix(".png"))])[0] for path in paths]
    for image, prediction in zip(with_places, best, strict=True):
        probability = model.model(test.normalize(image)).softmax(1).max().item()
        assert prediction.probability == pytest.approx(probability, abs=0.02)  # a byte a pixel
    (tmp_path / "own").mkdir()
    with pytest.raises(DataError, match="no image in"):
        examples_of(model, str(tmp_path / "own"), tmp_path)
    with pytest.raises(DataError, match="is a file"):
        examples_of(model, paths[0], tmp_path)
    shutil.copy(paths[0], tmp_path / "own")
    assert [path.rpartition("/")[2] for path in examples_of(model, str(tmp_path / "own"), tmp_path)] == ["digits-0.png"]


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GCPError, match=rf"127\.0\.0\.1, port {port}: .*--port"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", None) >= USUAL
    with pytest.raises(GCPError, match=r"no\.such\.host\.invalid"):
        free_port("no.such.host.invalid", None)


def test_the_page_is_served(finished, tmp_path):
    """It answers at its address, and its configuration names no other host."""
    pytest.importorskip("gradio", reason="gradio is not installed: the extra demo has it")
    from gcp.evaluation.page import create_page, launch

    trained = gcp.load(str(finished), device="cpu")
    page = create_page(trained, "a *title*", "about", [])
    port = free_port("127.0.0.1", None)
    launch(page, "127.0.0.1", port, block=False)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as answer:
            config = json.loads(answer.read())
        assert config["analytics_enabled"] is False
        values = [part["props"].get("value") for part in config["components"]]
        assert any(isinstance(value, str) and r"\*title\*" in value for value in values)
    finally:
        page.close()
