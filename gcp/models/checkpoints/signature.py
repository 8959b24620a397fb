"""What a file is by its first bytes, for those that are taken for weights and are none."""

from pathlib import Path

HEAD = 512
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch's files before 1.6 begin with, as a pickle

# First bytes -> what the file is, and what to do about it.
BEGINNINGS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the weights: run 'git lfs pull' where it was cloned",
    b"\x1f\x8b": "it is a gzip archive: unpack it and give the file of weights inside",
    b"BZh": "it is a bzip2 archive: unpack it and give the file of weights inside",
    b"\xfd7zXZ": "it is an xz archive: unpack it and give the file of weights inside",
    b"7z\xbc\xaf": "it is a 7z archive: unpack it and give the file of weights inside",
    b"Rar!": "it is a RAR archive: unpack it and give the file of weights inside",
    b"\x28\xb5\x2f\xfd": "it is a Zstandard archive: unpack it and give the file of weights inside",
    b"\x89HDF": "it is an HDF5 file (Keras, MATLAB), not weights of torch",
    b"\x93NUMPY": "it is a NumPy array, not weights of torch",
    b"MATLAB 5.0": "it is a MATLAB file (MatConvNet, for instance), not weights of torch",
    b"GGUF": "it is a GGUF file, not weights of torch",
    b"\x7fELF": "it is a program",
    b"%PDF": "it is a PDF",
    b"\x89PNG": "it is an image",
    b"\xff\xd8\xff": "it is an image",
}
WEB = (b"<!doctype", b"<html", b"<head", b"<?xml")


def foreign(path: Path) -> str | None:
    """Why the file at `path` cannot hold weights, None where it may."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        return "it is damaged, truncated to nothing: the file is empty"
    if not any(head):
        return "it is damaged: it begins with zeros only, as a file does whose download was never finished"
    for beginning, meaning in BEGINNINGS.items():
        if head.startswith(beginning):
            return meaning
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(WEB):
        return "it is a web page, not weights: the download gave an error or a login page; fetch the file again"
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it and give the file of weights inside"
    if _is_text(head):
        return f"it is a text file, which begins with {text[:40].decode(errors='replace')!r}"
    return None


def is_legacy(path: Path) -> bool:
    """Whether torch before 1.6 wrote the file: several pickles in a row."""
    with open(path, "rb") as file:
        return LEGACY in file.read(32)  # behind the version of the pickle


def is_safetensors(path: Path) -> bool:
    """Whether the file is in the safetensors format: the length of a header, then its JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def _is_text(head: bytes) -> bool:
    """Pickles of protocol 0 are text as well; they begin with an opcode and end lines with names."""
    printable = all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    return printable and head[:1] not in (b"(", b"c", b"]", b"}")
