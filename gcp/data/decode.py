"""From an image as it is stored to its pixels, (C, h, w) uint8: grey for one channel, RGB for three.

Pillow decodes every format, so training and evaluation see the same pixels in every process. What follows works on
tensors, whose resampling takes half of Pillow's time; torchvision's own decoder is no faster than Pillow's, saves
the copy into a tensor (a quarter of the time of an image with its crop), and is deprecated.

Of an animation the first frame is taken, and 16 bits a channel are scaled to 8. `as_shown` is what a viewer shows: the
image turned as its EXIF orientation says, on which phones rely, and its transparent parts on white. The published
pipelines do neither.
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

_ORIENTATION = 0x0112  # the tag of EXIF
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


def decode(path: str | Path, in_chans: int, as_shown: bool = False) -> Tensor:
    """The pixels of the file at `path`. Raises DataError with path and cause."""
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return decode_bytes(data, str(path), in_chans, as_shown)


def read_regular(path: str | Path) -> bytes:
    """The bytes of the file at `path`. Raises OSError for a pipe, which would wait for ever, for a device, which may
    have no end, and for all else that is no regular file.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is a pipe, a socket or a device, not a file")
        return file.read()


def decode_bytes(data: bytes, name: str, in_chans: int, as_shown: bool = False) -> Tensor:
    """The pixels of an encoded image; `name` stands for it in the DataError of one that cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as picture:
            return decode_pillow(picture, name, in_chans, as_shown)
    except DataError:
        raise
    except UnidentifiedImageError:
        found = f"no known format, it begins with {data[:12]!r}" if data else "the file is empty"
        error = UnidentifiedImageError(found)
        raise _unreadable(name, error) from error
    except Exception as error:  # decoders of broken files raise nearly anything
        raise _unreadable(name, error) from error


def decode_pillow(picture: "Image", name: str, in_chans: int, as_shown: bool = False) -> Tensor:
    """The pixels of a Pillow image that may not be read yet. Raises DataError with `name` and cause."""
    try:
        picture.load()
        return from_pillow(_on_white(_turned(picture)) if as_shown else picture, name, in_chans)
    except DataError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise _unreadable(name, error) from error


def _turned(picture: "Image") -> "Image":
    """The image as its EXIF orientation says; as it is stored where there is none, or damaged metadata."""
    from PIL import ImageOps

    try:
        return picture if picture.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(picture)
    except Exception:  # damaged metadata raise nearly anything, and the image was decoded without them
        return picture


def from_pillow(picture: "Image", name: str, in_chans: int) -> Tensor:
    """The pixels of a Pillow image of any mode. Raises DataError for 32 bits a channel, whose white is not known."""
    image = _eight_bits(picture, name) if picture.mode.startswith(("I", "F")) else picture
    # From a palette with transparency Pillow wants the way over RGBA, and warns otherwise.
    clear = image.mode == "P" and "transparency" in image.info
    image = image.convert("RGBA") if clear else image
    mode = "L" if in_chans == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)  # which would copy
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


def _eight_bits(picture: "Image", name: str) -> "Image":
    """A grey image of 16 bits scaled to 8, where Pillow's own conversion clips at 255 and gives a white image."""
    from PIL import Image

    # Before Pillow 11 a PNG of 16 bits has the mode of 32.
    if not picture.mode.startswith("I;16") and not (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        raise DataError(
            f"the image {name} has mode {picture.mode!r}; allowed are 8 bits and 16 bits per channel. Convert it."
        )
    levels = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))


def _on_white(picture: "Image") -> "Image":
    """An image with its transparent parts on white; the colours that lie below are arbitrary, mostly black."""
    from PIL import Image

    clear = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    if not clear or picture.mode.startswith("I"):  # of 16 bits, which RGBA does not hold
        return picture
    image = picture.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _unreadable(name: str | Path, error: Exception) -> DataError:
    missing = isinstance(error, FileNotFoundError | IsADirectoryError)
    mend = "Give the path of an image" if missing else "Replace the file, or remove it"
    return DataError(f"cannot read the image {name}: {type(error).__name__}: {error}. {mend}.")
