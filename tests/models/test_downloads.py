"""Weights of the hub without a network: at once, and in one line."""

import time

import pytest
import timm
from huggingface_hub import constants

from gcp.errors import GCPError
from gcp.models import create_model, downloads


def test_without_a_network(monkeypatch, tmp_path, caplog):
    """An address that refuses; nothing is asked for again and again."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    create_model("test_resnet", head="average", num_classes=2)  # what is imported on first use takes longer
    begin = time.monotonic()
    with pytest.raises(GCPError, match=r"127\.0\.0\.1:9 cannot be reached.*pretrained=FILE") as caught:
        create_model("test_resnet", head="average", num_classes=2, pretrained=True)
    assert time.monotonic() - begin < 20 and "\n" not in str(caught.value)
    assert not any("Retrying" in record.getMessage() for record in caplog.records)
    assert not constants.HF_HUB_OFFLINE


def test_the_cache_serves_without_a_network(monkeypatch):
    monkeypatch.setattr(downloads, "_unreachable", lambda address: "no route")
    with downloads.from_hub():
        assert constants.HF_HUB_OFFLINE and timm.create_model("test_resnet")
    assert not constants.HF_HUB_OFFLINE


def test_what_is_no_fault_of_the_network_stays(monkeypatch):
    monkeypatch.setattr(downloads, "_unreachable", lambda address: "no route")
    with pytest.raises(ValueError, match="in_chans"), downloads.from_hub():
        raise ValueError("in_chans")
