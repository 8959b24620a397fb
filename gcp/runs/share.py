"""A trained model for others: a folder with its weights and a card, and the same on the Hugging Face hub.

The file of weights is one of `gcp convert`: safetensors, with configuration and classes as JSON beside the tensors.
Nothing in it is executed. `gcp.load` opens the folder, and `hf-hub:USER/NAME` as well.
"""

import json
from pathlib import Path
from typing import Any

from gcp.engine.folder import find_run_folder, write_text
from gcp.errors import CheckpointError, GCPError
from gcp.models.checkpoints import open_checkpoint
from gcp.models.downloads import from_hub

HUB = "hf-hub:"
WEIGHTS = "model.safetensors"


def fetch(name: str) -> Path:
    """The file of weights of `hf-hub:USER/NAME`, or of `hf-hub:USER/NAME@REVISION`, from the hub or its cache here.

    Raises CheckpointError where there is none, or no network.
    """
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        with from_hub():
            return Path(hf_hub_download(repository, WEIGHTS, revision=revision or None))
    except (OSError, ValueError) as error:  # of the network, the hub, or a name that cannot be one
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{WEIGHTS} of {name} could not be fetched ({type(error).__name__}: {reason}). A name is "
            f"{HUB}USER/NAME; private ones need `hf auth login`."
        ) from error


def publish(folder: Path, name: str) -> str:
    """Upload a folder to `hf-hub:USER/NAME`, which is made where it is not there. Returns its address.

    Raises GCPError where the hub refuses.
    """
    from huggingface_hub import HfApi

    repository = name.removeprefix(HUB)
    try:
        api = HfApi()
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add a model")
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise GCPError(
            f"{name} could not be written ({type(error).__name__}: {reason}). Type `hf auth login` with a token that "
            f"may write; the model is in {folder}, if you would rather upload it yourself."
        ) from error
    return str(address)


def write_card(folder: Path, given: str) -> None:
    """README.md beside the weights: what the model is, its scores, and how to use it. `given`: where it comes from."""
    about = open_checkpoint(folder / WEIGHTS).about
    config, classes = about["config"], about.get("classes") or []
    write_text(folder / "README.md", card(folder.name, config, classes, _result(given)))


def card(name: str, config: dict[str, Any], classes: list[str], result: dict[str, Any] | None) -> str:
    """The text of the card; `result` is that of the run, None where there is none."""
    model, head, data = config["model"], config["head"], config["data"]
    told = {"data": data["name"], "classes": len(classes) or None, "backbone": model["backbone"], "head": head["name"]}
    told |= {"channels": head.get("dim"), "image size": data.get("image_size")}
    rows = [f"| {key} | {value} |" for key, value in told.items() if value is not None]
    for split, scores in ((result or {}).get("test") or {}).items():
        low, high = interval(scores["top1"], scores["count"])
        text = f"{scores['top1']:.2f} % (95 % interval {low:.1f} to {high:.1f}, {scores['count']} test images)"
        rows.append(f"| top-1, {'best on validation' if split == 'best' else 'final weights'} | {text} |")
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    return f"""---
library_name: gcp
pipeline_tag: image-classification
tags: [image-classification, global-covariance-pooling]
---

# {name}

| | |
|---|---|
{chr(10).join(rows)}

```python
import gcp

trained = gcp.load("{HUB}USER/{name}")  # or this folder
trained.predict("photo.jpg")
```

{f"Classes: {shown}." if shown else "The file names no classes."}

Neither the licence of the images and weights that it was trained from, nor what it should not be used for, is known to
the program that wrote this card: add them.
"""


def interval(percent: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` images, both in percent."""
    z, share = 1.959964, percent / 100
    centre, spread = share + z * z / (2 * count), z * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    low, high = (100 * (centre + sign * spread) / (1 + z * z / count) for sign in (-1, 1))
    return low, high


def _result(given: str) -> dict[str, Any] | None:
    try:
        found = json.loads((find_run_folder(given).path / "result.json").read_text(encoding="utf-8"))
    except (GCPError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
