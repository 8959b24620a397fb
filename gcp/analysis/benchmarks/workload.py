"""What a benchmark of training trains: a head on a backbone, on the handwritten digits."""

from dataclasses import dataclass

import torch

from gcp.data import Loader, create_dataset
from gcp.engine.optimizer import create_optimizer
from gcp.engine.precision import create_scaler
from gcp.engine.state import TrainingState
from gcp.engine.step import Recipe
from gcp.models import create_model
from gcp.models.parts import parameter_groups


@dataclass(frozen=True)
class Workload:
    """The same weights and batches each time.

    Attributes:
        backbone: any name of `gcp.create_model`.
        head: pooling head.
        dim: channels after its reduction.
        batch_size: images of a step.
        image_size: side of the images.
        device: where everything runs.
        amp: none, bf16 or fp16.
        channels_last: memory order of images and weights.
        seed: of weights and order.
    """

    backbone: str = "resnet20_cifar"
    head: str = "svd_pade"
    dim: int | None = 64
    batch_size: int = 64
    image_size: int = 32
    device: torch.device | str = "cpu"
    amp: str = "none"
    channels_last: bool = False
    seed: int = 0

    def loader(self) -> Loader:
        """Batches of the training split."""
        images = create_dataset("digits", image_size=self.image_size).images("train")
        return Loader(images, self.batch_size, train=True, seed=self.seed)

    def recipe(self) -> Recipe:
        """How a step is made."""
        return Recipe(amp=self.amp, channels_last=self.channels_last, seed=self.seed)

    def state(self) -> TrainingState:
        """A model at its beginning, with SGD. Errors as of `gcp.create_model`."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        torch.manual_seed(self.seed)
        model = create_model(self.backbone, head=self.head, num_classes=10, dim=self.dim)
        model = model.to(self.device).to(memory_format=order)
        optimizer = create_optimizer(parameter_groups(model, 0.01, 1e-4), "sgd", 0.01)
        return TrainingState(model, optimizer, create_scaler(torch.device(self.device), self.amp))
