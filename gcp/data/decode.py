"""From an image as it is stored to its pixels, (C, h, w) uint8: grey for one channel, RGB for three.

Pillow decodes every format, so training and evaluation see the same pixels in every process. What follows works on
tensors, whose resampling takes half of Pillow's time; torchvision's own decoder is no faster than Pillow's, saves
the copy into a tensor (a quarter of the time of an image with its crop), and is deprecated. Orientation tags are not
applied, as in the published pipelines.
"""

import os
import stat
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gcp.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


def decode(path: str | Path, in_chans: int) -> Tensor:
    """The pixels of the file at `path`. Raises DataError with path and cause."""
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return decode_bytes(data, str(path), in_chans)


def read_regular(path: str | Path) -> bytes:
    """The bytes of the file at `path`. Raises OSError for a pipe, which would wait for ever, for a device, which may
    have no end, and for all else that is no regular file.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is a pipe, a socket or a device, not a file")
        return file.read()


def decode_bytes(data: bytes, name: str, in_chans: int) -> Tensor:
    """The pixels of an encoded image; `name` stands for it in the DataError of one that cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as picture:
            return decode_pillow(picture, name, in_chans)
    except DataError:
        raise
    except UnidentifiedImageError:
        found = f"no known format, it begins with {data[:12]!r}" if data else "the file is empty"
        error = UnidentifiedImageError(found)
        raise _unreadable(name, error) from error
    except Exception as error:  # decoders of broken files raise nearly anything
        raise _unreadable(name, error) from error


def decode_pillow(picture: "Image", name: str, in_chans: int) -> Tensor:
    """The pixels of a Pillow image that may not be read yet. Raises DataError with `name` and cause."""
    try:
        picture.load()
        return from_pillow(picture, name, in_chans)
    except DataError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise _unreadable(name, error) from error


def from_pillow(picture: "Image", name: str, in_chans: int) -> Tensor:
    """The pixels of a Pillow image of any mode. Raises DataError for more than 8 bits per channel."""
    if picture.mode.startswith(("I", "F")):
        # Conversion from 16 or 32 bits clips at 255 and gives a white image.
        raise DataError(f"the image {name} has mode {picture.mode!r}; allowed are 8 bits per channel. Convert it.")
    # From a palette with transparency Pillow wants the way over RGBA, and warns otherwise.
    clear = picture.mode == "P" and "transparency" in picture.info
    image = picture.convert("RGBA") if clear else picture
    mode = "L" if in_chans == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)  # which would copy
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


def _unreadable(name: str | Path, error: Exception) -> DataError:
    missing = isinstance(error, FileNotFoundError | IsADirectoryError)
    mend = "Give the path of an image" if missing else "Replace the file, or remove it"
    return DataError(f"cannot read the image {name}: {type(error).__name__}: {error}. {mend}.")
