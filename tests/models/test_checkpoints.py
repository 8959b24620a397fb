"""Reading files: what is taken, and one message for each thing that is none."""

import io
import logging
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from gcp.errors import CheckpointError
from gcp.models import create_model
from gcp.models.archive import save_safetensors
from gcp.models.checkpoints import open_checkpoint, read_checkpoint
from gcp.models.weights import lower_from_upper, triangle_side, upper_from_lower

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def archive(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"contents")
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def program():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


FOREIGN = {
    "empty": (b"", r"truncated .*file is empty"),
    "zeros": (bytes(4096), r"zeros .*download"),
    "html": (b"\n<!DOCTYPE html><html><title>Sign in</title></html>", r"it is a web page, not weights: the download"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", r"it is a web page, not weights"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"Git LFS pointer, .* run 'git lfs pull'"),
    "text": (b"Too many requests\n", r"text file.*'too many requests"),
    "json": (b'{"error": "not found"}', r"it is a text file, which begins with '{"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), r"it is a gzip archive: unpack it"),
    "tar": (tar(), r"it is a tar archive: unpack it"),
    "zip": (archive(["photo.jpg", "readme.txt"]), r"zip .*photo\.jpg, readme\.txt"),
    "npz": (archive(["a.npy", "b.npy"]), r"it is a NumPy archive"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(60), r"it is a NumPy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), r"it is an HDF5 file"),
    "matlab": (b"MATLAB 5.0 MAT-file" + bytes(60), r"it is a MATLAB file"),
    "png": (b"\x89PNG\r\n" + bytes(60), r"it is an image"),
    "noise": (bytes(range(200, 256)) * 9, r"damaged, truncated, .*weights"),
    "torchscript": (program(), r"TorchScript .*run code"),
    "list": (saved([1, 2]), r"holds no state dict"),
    "nothing": (saved({}), r"holds no state dict"),
    "numbers": (saved({"state_dict": {"a": 1}}), r"holds no state dict"),
    "safetensors": (b"\x10\0\0\0\0\0\0\0{\"a\": broken}...", r"damaged, truncated, .*safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_one_message_for_each_file_that_is_none(kind, tmp_path):
    content, message = FOREIGN[kind]
    (tmp_path / "größe 1.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(tmp_path / "größe 1.pth")
    assert str(caught.value).startswith(str(tmp_path / "größe 1.pth")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("twentieth", range(0, 20, 1))
def test_truncated_anywhere(layout, twentieth, tmp_path):
    path = tmp_path / "file.pth"
    weights = {"w": torch.randn(40, 40)}
    if layout == "safetensors":
        save_safetensors(path, weights, {})
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=layout == "zip")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * twentieth // 20])
    with pytest.raises(CheckpointError, match=r"cannot be read: it is damaged"):
        read_checkpoint(path)


def test_a_flipped_byte_of_a_tensor_is_found(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"w": torch.full((100,), 7.0)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(torch.full((4,), 7.0).numpy().tobytes())] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"it is damaged: record .*data/0 fails its check"):
        read_checkpoint(path)


class Trap:
    """Unpickled without care this would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_says_what_it_wanted(kind, protocol, tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "file.pth"
    content = {"state_dict": WEIGHTS if kind != "pickle" else {}, "extra": Trap(trap)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip", pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"wants to import (posix|nt)\.system, which could execute anything"):
        read_checkpoint(path, numpy_scalars=True)
    assert not trap.exists()


def test_a_pickled_model_names_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"wants to import torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(tmp_path / "model.pth")


NUMPY = {"epoch": np.int64(7), "best_prec1": np.float64(71.5), "curve": np.arange(3.0), "arch": "resnet18"}


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_need_the_flag(tmp_path, zipped):
    path = tmp_path / "old.pth"
    torch.save({"state_dict": WEIGHTS, **NUMPY}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"NumPy.* convert .* --numpy-scalars"):
        read_checkpoint(path)
    found = read_checkpoint(path, numpy_scalars=True)
    assert found.about["best_prec1"] == 71.5 and torch.equal(found.state["a.weight"], WEIGHTS["a.weight"])
    with pytest.raises(CheckpointError):  # and the admission has ended
        read_checkpoint(path)


def test_the_name_of_numpy_1_is_known(tmp_path):
    """Files of old say numpy.core, which is numpy._core since NumPy 2."""
    path = tmp_path / "old.pth"
    torch.save({"state_dict": WEIGHTS, "best": np.float64(3.5)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert read_checkpoint(path, numpy_scalars=True).about["best"] == 3.5


@pytest.mark.parametrize("value", [np.array([Trap("x")], dtype=object), np.zeros(2, dtype=[("a", "f4")])])
def test_numpy_objects_and_records_stay_out(tmp_path, value):
    torch.save({"state_dict": WEIGHTS, "extra": value}, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "old.pth", numpy_scalars=True)


def test_safetensors_with_values_beside_them(tmp_path):
    about = {"classes": ["a", "ü"], "config": {"model": {"backbone": "resnet18"}}}
    save_safetensors(tmp_path / "file.bin", WEIGHTS, about)  # told by its contents, not by its name
    found = read_checkpoint(tmp_path / "file.bin")
    assert all(torch.equal(found.state[key], value) for key, value in WEIGHTS.items())
    assert found.about["classes"] == about["classes"] and found.about["config"] == about["config"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.module."])
def test_prefixes_come_off(tmp_path, prefix):
    torch.save({"state_dict": {prefix + key: value for key, value in WEIGHTS.items()}}, tmp_path / "x.pth")
    assert set(read_checkpoint(tmp_path / "x.pth").state) == set(WEIGHTS)


def test_a_key_with_and_without_prefix(tmp_path):
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"holds 'a' twice"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_run_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*best\.pt, last\.pt"):
        open_checkpoint(str(tmp_path))
    torch.save({"model": {"w": torch.ones(1)}, "ema": {"w": torch.zeros(1)}}, tmp_path / "last.pt")
    assert open_checkpoint(str(tmp_path)).averaged
    torch.save({"model": {"w": torch.full((1,), 2.0)}}, tmp_path / "best.pt")
    assert open_checkpoint(str(tmp_path)).state["w"] == 2


def test_a_missing_file_names_the_nearest(tmp_path):
    torch.save(WEIGHTS, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"bst\.pth.* Did you mean .*best\.pth"):
        open_checkpoint(str(tmp_path / "bst.pth"))


def test_a_name_of_timm(monkeypatch, caplog):
    import timm

    weights = timm.create_model("test_resnet", num_classes=4)
    monkeypatch.setattr(
        "timm.create_model", lambda name, pretrained, **_: {("test_resnet.r160_in1k", True): weights}[name, pretrained]
    )
    found = open_checkpoint("test_resnet.r160_in1k")
    monkeypatch.undo()
    assert torch.equal(found.state["conv1.0.weight"], weights.state_dict()["conv1.0.weight"])
    with pytest.raises(CheckpointError, match=r"timm .*Did you mean 'test_resnet\.r160"):
        open_checkpoint("test_resnet.r160_in2k")


def test_a_download_that_fails(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("timm.create_model", offline)
    monkeypatch.setattr("gcp.models.downloads._unreachable", lambda address: None)
    with pytest.raises(CheckpointError, match=r"timm .*OSError: no route\b.*network"):
        open_checkpoint("resnet18.a1_in1k")


def test_weights_of_timm_by_name_into_a_model(monkeypatch, caplog):
    import timm

    weights = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr("gcp.models.checkpoints._download", lambda name: weights)
    with caplog.at_level(logging.WARNING, "gcp"):
        model = create_model("test_resnet", "svd_pade", 5, dim=4, pretrained="test_resnet.r160_in1k")
    assert torch.equal(model.features.body.conv1[0].weight, weights["conv1.0.weight"])
    assert "only in the file: fc" in caplog.text


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_the_two_orders_entry_by_entry(d):
    upper = [(i, j) for i in range(d) for j in range(d) if j >= i]
    lower = [(i, j) for i in range(d) for j in range(d) if j <= i]
    for place, (row, column) in enumerate(upper):
        assert lower[upper_from_lower(d)[place]] == (column, row)
    assert torch.equal(upper_from_lower(d)[lower_from_upper(d)], torch.arange(d * (d + 1) // 2))


def test_sides_of_triangles():
    widths = {d * (d + 1) // 2: d for d in range(1, 300)}
    assert all(triangle_side(width) == widths.get(width) for width in range(40000))
    assert triangle_side(32896) == 256 and triangle_side(0) is None
