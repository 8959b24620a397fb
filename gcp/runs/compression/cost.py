"""What a forward of a model costs, against that of the model it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gcp.measure import peak_bytes, spread, take_turns, timed

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Of one model.

    Attributes:
        parameters: their number.
        weights_mib: memory of parameters and buffers.
        peak_mib: the most that a forward allocates beside them, None where it is not measured.
        latency_ms, fastest_ms: median and least time of a forward of the batch.
    """

    parameters: int
    weights_mib: float
    peak_mib: float | None
    latency_ms: float
    fastest_ms: float


def costs(
    models: Mapping[str, nn.Module], images: Tensor, repeats: int = 7, warmup: int = 2, memory: bool = True
) -> dict[str, Cost]:
    """Costs of models on one batch (B, C, H, W) where they are; their forwards take turns. Evaluation mode.

    Without `memory` the peak, which needs a forward under a profiler, is left out.
    """
    device = images.device

    def lap(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"forward": timed(lambda: model(images), device)[1]}

    def peak(model: nn.Module) -> float:
        with torch.no_grad():
            return peak_bytes(lambda: model(images), device) / MIB

    modes = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    times = take_turns({name: partial(lap, model) for name, model in models.items()}, warmup, repeats)
    found = {}
    for name, model in models.items():
        held = [*model.parameters(), *model.buffers()]
        took = spread(times[name]["forward"])
        found[name] = Cost(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            weights_mib=sum(tensor.numel() * tensor.element_size() for tensor in held) / MIB,
            peak_mib=peak(model) if memory else None,
            latency_ms=took["median"],
            fastest_ms=took["min"],
        )
        model.train(modes[name])
    return found
