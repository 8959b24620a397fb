"""From whatever a network calls its features to a map (B, C, h, w).

Convolutional networks give the map; some write the channels last (B, h, w, C); transformers give tokens
(B, N, C), of which the first few (class, distillation, registers) do not belong to the grid.
"""

from torch import Tensor


def grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The h x w = tokens that a common patch side can cut from an image of `size`, or None where none can."""
    height, width = size
    for h in range(1, tokens + 1):
        w, rest = divmod(tokens, h)
        if rest or (height == width and h != w):
            continue
        # A patch side s gives floor or ceil of height / s and of width / s: both ranges of s must overlap.
        low = max(height / (h + 1), width / (w + 1))
        high = min(height / (h - 1) if h > 1 else height + 1, width / (w - 1) if w > 1 else width + 1)
        if low < high and low <= min(height, width):
            return h, w
    return None


def prefix_tokens(tokens: int, size: tuple[int, int], declared: int | None) -> int | None:
    """Count the tokens before the grid: as declared by the model, else the fewest of 0, 1, 2 that fit."""
    candidates = (0, 1, 2) if declared is None else (declared,)
    fitting = (count for count in candidates if tokens > count and grid(tokens - count, size))
    return next(fitting, None)


def to_map(features: Tensor, layout: str, prefix: int, size: tuple[int, int]) -> Tensor:
    """Features in `layout` (`NCHW`, `NHWC` or `NLC`) of images of `size` as a map (B, C, h, w)."""
    if layout == "NCHW":
        return features
    if layout == "NHWC":
        return features.permute(0, 3, 1, 2)
    cells = features[:, prefix:]
    shape = grid(cells.shape[1], size)
    assert shape is not None, f"{cells.shape[1]} tokens do not tile an image of {size}"
    return cells.transpose(1, 2).unflatten(2, shape)
