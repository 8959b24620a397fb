import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from gcp.data.decode import decode, decode_bytes, decode_pillow, from_pillow
from gcp.errors import DataError

RED = Image.new("RGB", (7, 5), (200, 10, 30))


def noise(height=20, width=30, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_that_were_stored(form):
    image = noise()
    got = decode_bytes(encoded(image, form), "x", 3)
    assert got.dtype == torch.uint8 and got.shape == (3, 20, 30)
    assert np.array_equal(got.permute(1, 2, 0).numpy(), np.asarray(image))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg(options):
    image = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 48, 3)))
    got = decode_bytes(encoded(image, "JPEG", quality=95, **options), "x", 3)
    assert (got.permute(1, 2, 0).float() - torch.from_numpy(np.array(image)).float()).abs().max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "PA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_of_8_bits_becomes_grey_or_rgb(mode, channels):
    """A grey of 102 in every mode; only bilevel images cannot hold it."""
    image = Image.new("RGB", (6, 4), (102, 102, 102))
    image = image.convert("L").convert(mode) if mode in ("1", "LA", "PA") else image.convert(mode)
    got = from_pillow(image, "x", channels)
    assert got.shape == (channels, 4, 6)
    if mode == "1":
        assert set(got.flatten().tolist()) <= {0, 255}
    else:
        assert (got.int() - 102).abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_jpeg(channels):
    got = decode_bytes(encoded(RED.convert("CMYK"), "JPEG", quality=95), "x", channels)
    expected = [200, 10, 30] if channels == 3 else [0.299 * 200 + 0.587 * 10 + 0.114 * 30]
    assert (got.float() - torch.tensor(expected).view(-1, 1, 1)).abs().max() <= 3


def test_palette_with_transparency_is_read_without_a_warning(recwarn):
    image = noise(channels=1).convert("P")
    got = decode_bytes(encoded(image, "PNG", transparency=b"\x00" * 3), "x", 3)
    assert got.shape == (3, 20, 30) and not [w for w in recwarn if "transparency" in str(w.message).lower()]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_more_than_16_bits_are_refused_by_name(dtype):
    data = encoded(Image.fromarray(np.full((9, 9), 40_000, dtype=dtype)), "TIFF")
    with pytest.raises(DataError, match=r"some file .*'[IF][^']*'; allowed .*8 bits"):
        decode_bytes(data, "some file", 3)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_8(form, channels):
    """As v * 255 / 65535, rounded."""
    levels = np.array([[0, 128, 129, 257], [32767, 32896, 65406, 65535]], dtype=np.uint16)
    got = decode_bytes(encoded(Image.fromarray(levels), form), "x", channels)
    assert got.shape == (channels, 2, 4) and got[0].tolist() == [[0, 0, 1, 1], [127, 128, 254, 255]]
    assert (got == got[:1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_white(mode):
    """Half of them over a black that no viewer shows; an opaque image keeps its colours."""
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.putalpha(Image.fromarray(np.array([[0, 0, 255, 255], [0, 128, 255, 255]], dtype=np.uint8)))
    image = image.convert("LA") if mode != "RGBA" else image
    got = decode_pillow(image.convert(mode), "x", 3, as_shown=True)[0]
    assert got[0].tolist() == [255, 255, 0, 0] and abs(int(got[1, 1]) - 127) <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_where_asked_for(form, orientation):
    """Against Pillow's own; TIFF is turned by Pillow whenever it is read."""
    from PIL import ImageOps

    image, exif = noise(8, 16), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, form, exif=exif, **({"quality": 100} if form in ("JPEG", "WEBP") else {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    as_shown = decode_bytes(data, "x", 3, as_shown=True)
    assert np.array_equal(as_shown.permute(1, 2, 0).numpy(), np.asarray(expected))
    assert as_shown.shape == ((3, 8, 16) if orientation < 5 else (3, 16, 8))
    if form != "TIFF":
        assert decode_bytes(data, "x", 3).shape == (3, 8, 16)


def test_damaged_exif_does_not_make_an_image_unreadable():
    data = encoded(noise(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_bytes(data, "x", 3, as_shown=True).shape == (3, 20, 30)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_bytes(data, "x", 3).unique().tolist() == [0]


def test_a_path_with_spaces_and_letters_of_any_alphabet(tmp_path):
    path = tmp_path / "Grün ärger" / "鳥 1.png"
    path.parent.mkdir()
    RED.save(path)
    (tmp_path / "link.png").symlink_to(path)
    for place in (path, str(path), tmp_path / "link.png"):
        assert decode(place, 3)[:, 0, 0].tolist() == [200, 10, 30]


def test_faults_name_the_file_and_the_cause(tmp_path):
    whole = encoded(noise(), "JPEG")
    for name, data, cause in [
        ("cut.jpg", whole[: len(whole) // 2], "OSError: "),
        ("empty.jpg", b"", "UnidentifiedImageError: the file is empty"),
        ("text.png", b"<html> ", "UnidentifiedImageError: no known format, it begins with b'<html> '"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / name))}: {cause}"):
            decode(tmp_path / name, 3)
    with pytest.raises(DataError, match=r"gone\.jpg: FileNotFoundError: .*path"):
        decode(tmp_path / "gone.jpg", 3)
    with pytest.raises(DataError, match=r"cannot read the image .*: IsADirectoryError"):
        decode(tmp_path, 3)
