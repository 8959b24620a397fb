"""`gcp convert IN OUT [flags]` and `--inspect IN`."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gcp.cli.arguments import parse
from gcp.command import as_typed
from gcp.errors import GCPError, UnknownNameError

if TYPE_CHECKING:
    from gcp.models import Classifier
    from gcp.models.checkpoints import Checkpoint
    from gcp.models.summary import Summary

FLAGS = {
    "--inspect": (0, 1),
    "--data": (1, 2),
    **dict.fromkeys(("--to", "--order", "--write-order", "--backbone", "--head", "--last-stride"), (1, 1)),
    **dict.fromkeys(("--image-size", "--images", "--batch"), (1, 1)),
    **dict.fromkeys(("--numpy-scalars", "--force", "--help"), (0, 0)),
}
ORDERS = ("auto", "upper", "lower")
OWN = "own"
HUB = "hf-hub:"
log = logging.getLogger("gcp")

USAGE = """\
Convert weights of other projects into files of this library, and back.

  gcp convert IN OUT [flags]
  gcp convert IN FOLDER/             for others: weights, and a card with the scores of the run
  gcp convert IN hf-hub:USER/NAME    the same, uploaded to the Hugging Face hub
  gcp convert --inspect IN

IN is a file of torch or safetensors of a layout below, a run folder, or the name of weights of timm. OUT is written
as safetensors if its name ends in .safetensors, else by torch.

  --to LAYOUT        own (default), or a layout of others that has a triangle
  --order ORDER      of the triangle in IN, where it is of others: upper (2019 and later), lower (2018), auto (the
                     default: by the accuracy on --data; without it upper, unchecked)
  --write-order ORDER  in OUT, where it is for others: upper (default, or that of the file it once was), lower
  --data NAME ROOT   labelled images, the test split of a data set, that tell the order by the accuracy
  --data FOLDER      the same from FOLDER/CLASS/*.jpg, whose sorted classes are the file's
  --image-size N     of these images (224)    --images N  how many at most (500)    --batch N  at a time (16)
  --backbone NAME    if the file does not tell          --head NAME  if it does not tell
  --last-stride 1|2  if it does not tell; 1 gives a map of twice the side
  --numpy-scalars    allow NumPy numbers beside the weights, as in files of old training scripts
  --force            replace OUT
  --inspect          print what a file is and write nothing

Nothing in a file is executed. Optimizer states are left out.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    paths = []
    while argv and not argv[0].startswith("-"):
        paths.append(argv[0])
        argv = argv[1:]
    arguments = parse(argv, FLAGS)
    flags = arguments.flags
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: this command takes flags only; see --help.")
    if "--help" in flags:
        print(f"{as_typed(USAGE)}\nLayouts:\n{_layouts()}")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if "--inspect" in flags:
        paths += flags["--inspect"]
        if len(paths) != 1:
            raise GCPError("one file is inspected at a time: --inspect FILE")
        return _inspect(paths[0], flags)
    if len(paths) != 2:
        raise GCPError(
            f"needs IN and OUT before the flags, got {len(paths)} of them. Type for example\n"
            "  gcp convert mpncovresnet50.pth weights.pt\nor --help for more."
        )
    if paths[1].startswith(HUB) or paths[1].endswith("/"):
        return _share(paths[0], paths[1], flags)
    return _convert(paths[0], Path(paths[1]), flags)


def _share(given: str, out: str, flags: dict[str, list[str]]) -> int:
    """Into a folder with a card, or to the hub."""
    from gcp.runs.share import WEIGHTS, publish, write_card

    if "--to" in flags:
        raise GCPError("--to is for a file: what is shared in a folder or on the hub is of this library's layout.")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, PurePath(out).name) if out.startswith(HUB) else Path(out)
        if (folder / "README.md").exists() and "--force" not in flags:
            raise GCPError(f"{folder / 'README.md'} exists; replace it by --force")
        folder.mkdir(parents=True, exist_ok=True)
        _convert(given, folder / WEIGHTS, flags)
        write_card(folder, given)
        if out.startswith(HUB):
            print(f"uploaded    {publish(folder, out)}")
        else:
            print(f"card        {folder / 'README.md'}")
    return 0


def _layouts() -> str:
    from gcp.models.layouts import LAYOUTS

    return "\n".join(f"  {entry!s:<30}{entry.summary}" for entry in LAYOUTS.list())


def _open(given: str, flags: dict[str, list[str]]) -> "tuple[Checkpoint, Summary]":
    from gcp.heads import list_heads
    from gcp.models import check_backbone
    from gcp.models.checkpoints import open_checkpoint
    from gcp.models.summary import summarise

    backbone, head = (flags.get(flag, [None])[0] for flag in ("--backbone", "--head"))
    if backbone is not None:
        check_backbone(backbone)
    if head is not None and head not in list_heads():
        raise UnknownNameError("head", head, list_heads())
    checkpoint = open_checkpoint(given, numpy_scalars="--numpy-scalars" in flags)
    return checkpoint, summarise(checkpoint, backbone, head)


def _inspect(given: str, flags: dict[str, list[str]]) -> int:
    from gcp.runs.weights import format_summary

    print(format_summary(*_open(given, flags)))
    return 0


def _choice(flags: dict[str, list[str]], flag: str, allowed: Sequence[str]) -> str | None:
    value = flags[flag][0] if flag in flags else None
    if value is not None and value not in allowed:
        raise UnknownNameError(flag.lstrip("-"), value, allowed)
    return value


def _number(flags: dict[str, list[str]], flag: str, default: int) -> int:
    text = flags.get(flag, [str(default)])[0]
    if not text.isdecimal() or int(text) < 1:
        raise GCPError(f"{flag} is {text!r}; allowed: a whole number >= 1.")
    return int(text)


def _convert(given: str, out: Path, flags: dict[str, list[str]]) -> int:
    from gcp.compress import merge
    from gcp.models.convert import build_model, export, left_over
    from gcp.models.layouts import LAYOUTS
    from gcp.runs.weights import format_summary, replace_file, write_own

    to = _choice(flags, "--to", [OWN, *(name for name in LAYOUTS if LAYOUTS[name].obj.packs)])
    order = _choice(flags, "--order", ORDERS)
    written = _choice(flags, "--write-order", ORDERS[1:])
    stride = _choice(flags, "--last-stride", ("1", "2"))
    if written and to in (None, OWN):
        raise GCPError("--write-order is for the layouts of others (--to); files of this library have the upper order.")
    if order == "auto" and "--data" not in flags:
        raise GCPError("--order auto needs labelled images: --data NAME ROOT, or --data FOLDER of a folder per class.")
    check_target(given, out, "--force" in flags, foreign=to not in (None, OWN))
    checkpoint, summary = _open(given, flags)
    if order and summary.order != "unknown":
        raise GCPError(
            f"--order is for files of others whose classifier reads a triangle; {given} is of layout "
            f"{summary.layout!r}, whose order is {summary.order or 'none'}."
        )
    changes = {"last_stride": stride and int(stride)}
    read = order if order in ("upper", "lower") else "upper"
    model = build_model(checkpoint, summary, read, **changes)
    classes = None
    if "--data" in flags:
        asked = summary.order == "unknown" and order in (None, "auto")
        found, classes = _look_at_images(model, flags, asked)
        if found != read and asked:
            read, model = found, build_model(checkpoint, summary, found, **changes)
    elif summary.order == "unknown" and order is None:
        log.warning("the order is taken as upper, unchecked: files of 2018 need --order lower; --data tells which")
    print(format_summary(checkpoint, summary))
    if summary.order == "unknown":
        print(f"read as     {read}")
    _print_left_out(left_over(checkpoint, summary, model), "optimizer" in checkpoint.about)
    if to in (None, OWN):
        changed = not flags.keys().isdisjoint(("--head", "--last-stride"))
        write_own(out, checkpoint, summary, model, read, classes, changed)
    else:
        if model.arguments["factors"]:
            log.info("its factors are multiplied out: the layout %s has no names for them", to)
        replace_file(out, export(checkpoint, summary, to, merge(model).state_dict(), written))
    print(f"written     {out}")
    return 0


def _look_at_images(model: "Classifier", flags: dict[str, list[str]], asked: bool) -> tuple[str, tuple[str, ...]]:
    """The order that labelled images tell of a model, upper where nobody `asked`, and their classes."""
    from gcp.runs.weights import check_classes, choose_order, labelled

    images, classes = labelled(flags["--data"], _number(flags, "--image-size", 224), model.features.in_chans)
    check_classes(classes, model)
    if not asked:
        return "upper", classes
    return choose_order(model, images, _number(flags, "--images", 500), _number(flags, "--batch", 16)), classes


def _print_left_out(keys: list[str], optimizer: bool) -> None:
    parts = [*keys[:5], *([f"{len(keys) - 5} more tensors"] if len(keys) > 5 else [])]
    parts += ["the state of the optimizer"] if optimizer else []
    if parts:
        print(f"left out    {', '.join(parts)}")


def check_target(given: str, out: Path, force: bool, foreign: bool) -> None:
    """Raise GCPError where OUT cannot be written without harm, before anything is read."""
    if out.is_dir() or not out.parent.is_dir():
        hint = f"; {out}/ with a slash shares it there, with a card" if out.is_dir() else ""
        raise GCPError(f"{out} is not a file in a folder that exists{hint}")
    if out.exists() and Path(given).exists() and out.samefile(given):
        raise GCPError(f"{out} is the file to be converted; give another name")
    if out.exists() and not force:
        raise GCPError(f"{out} exists; replace it by --force")
    if foreign and out.suffix == ".safetensors":
        raise GCPError(f"{out}: the layouts of others are files of torch; end the name in .pth.tar, for instance")
