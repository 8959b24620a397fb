"""A run of a small transformer: its class token, images of another size than it was made for, a run of before."""

import shutil

import pytest
import torch
import yaml
from run_fixtures import SMALL

import gcp
from gcp.config import from_dict
from gcp.engine import checkpoint
from gcp.errors import ConfigError

WORDS = ("data.image_size=32", "model.backbone=test_vit", "train.epochs=1", "head.dim=4", "head.name=newton_schulz")


@pytest.fixture
def run(train, here):
    """Train it with further settings, as runs/NAME."""

    def run(name, *words):
        answer = train("--config", "small.yaml", f"run.name={name}", *WORDS, *words)
        assert answer.code == 0, answer.err
        return answer.out

    return run


def logits(path):
    model = gcp.load(path, device="cpu").model
    size = 32
    return model, model(torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0)))


def test_with_the_token_by_default(run, here, evaluate):
    assert "beside one of the token" in run("fused")
    model, _ = logits("fused")
    assert model.token == "sum" and model.features.image_size is None
    assert evaluate("--checkpoint", "fused", "evaluate.batch_size=64").code == 0


def test_a_run_of_before_there_was_a_token(run, here, train):
    """Its configuration has no such keys: it loads, is scored and continued as the model that it was."""
    run("plain", "model.token=none")
    _, expected = logits("plain")
    folder = here / "runs" / "plain"
    values = yaml.safe_load((folder / "config.yaml").read_text())
    for key in ("token", "stage"):
        del values["model"][key]
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for file in list(folder.glob("*.pt")):
        saved = checkpoint.load(file)
        for key in ("token", "stage"):
            del saved["config"]["model"][key]
        torch.save(saved, file)
    model, found = logits("plain")
    assert model.token == "none" and torch.equal(found, expected)
    earlier = sorted(folder.glob("last-*.pt"))
    shutil.move(earlier[0], folder / "last.pt")
    (folder / "result.json").unlink()
    answer = train(f"resume={folder}")
    assert answer.code == 0 and "continuing" in answer.out, answer.err
    _, again = logits("plain")
    assert torch.equal(again, expected)


def test_cut_and_concatenated(run, here):
    run("cut", "model.stage=blocks.2", "model.token=concat", "model.freeze=[features]")
    model, _ = logits("cut")
    assert len(model.features.body.blocks) == 3 and model.token == "concat"
    # The file alone, without its run, tells the same.
    shutil.copy(here / "runs" / "cut" / "best.pt", here / "alone.pt")
    again, _ = logits("alone.pt")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_new_configuration_has_the_default():
    assert from_dict({"model": {"backbone": "test_vit"}}).model.token == "auto"
    assert "token" not in SMALL


def test_faults():
    with pytest.raises(ConfigError, match=r"model\.token.*auto.*none.*concat.*sum"):
        from_dict({"model": {"token": "add"}})
    with pytest.raises(ConfigError, match=r"model\.stage"):
        from_dict({"model": {"stage": 1.5}})


def test_features_kept_with_their_token(run, here):
    """Of a frozen backbone: the same run from its maps and tokens as from the images."""
    words = ("model.freeze=[features]", "data.transform=none", "train.mixup=0", "model.dropout=0")
    run("images", *words)
    run("kept", *words, "train.cache_features=true", "train.cache_dtype=float32", f"train.cache_dir={here / 'kept'}")
    (one, _), (other, _) = logits("images"), logits("kept")
    assert one.token == "sum"
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
