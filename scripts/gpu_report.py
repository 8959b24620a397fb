"""Everything that wants an NVIDIA GPU, in one command: right or wrong first, then the figures worth most.

Each part is a command in a process of its own with a time limit of its own. A part that fails or takes too long does
not stop the next one, and the report is rewritten after every part, so that whatever was measured is kept:
OUT/report.json (with the JSON of each part), OUT/report.md (card, versions, commands and what they printed).

Without a card, --rehearse runs every part on the CPU at tiny sizes. Its figures mean nothing.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarking

from gcp.engine.environment import describe_environment
from gcp.engine.folder import write_json, write_text
from gcp.errors import DeviceError, UnknownNameError

ROOT = Path(__file__).resolve().parents[1]
HEADS = ("svd_pade", "newton_schulz", "polar_express")


@dataclass(frozen=True)
class Part:
    """A command with its limit in seconds; `tiny` are the words that replace `sizes` in a rehearsal.

    `{json}` in the words becomes the file that the command writes, `{out}` a folder for the rest.
    """

    title: str
    limit: int
    words: tuple[str, ...]
    sizes: tuple[str, ...]
    tiny: tuple[str, ...]


def _script(name: str, title: str, limit: int, fixed: str, sizes: str, tiny: str) -> Part:
    words = (f"scripts/{name}.py", *fixed.split(), "--json", "{json}")
    return Part(title, limit, words, ("--device", "cuda", *sizes.split()), ("--device", "cpu", *tiny.split()))


def _step(title: str, fixed: str, tiny: str) -> Part:
    fixed = f"--heads {' '.join(HEADS)} {fixed}"
    sizes = "--batch 128 --amp bf16 --channels-last --repeats 10 --warmup 3"
    tiny = f"--batch 2 --dim 8 --classes 3 --repeats 1 --warmup 0 {tiny}"
    return _script("benchmark_step", title, 60, fixed, sizes, tiny)


def _digits(title: str, device: str) -> Part:
    words = ("-m", "gcp", "train", "--config", "digits/resnet", "run.dir={out}", f"run.device={device}")
    tiny = ("run.device=cpu", "data.per_class=3", "train.epochs=1", "run.name=rehearsal-" + device)
    return Part(title, 90, words, (f"run.name=digits-{device}",), tiny)


def _probe(title: str, device: str) -> Part:
    """Heads on frozen features that are computed once; random weights, for there may be no network."""
    words = ("-m", "gcp", "train", "--config", "digits/resnet", "run.dir={out}", f"run.device={device}")
    words += ("train.cache_features=true", "model.freeze=[features]", "data.transform=none")
    tiny = ("run.device=cpu", "data.per_class=3", "train.epochs=1", "run.name=rehearsal-probe-" + device)
    return Part(title, 90, words, (f"run.name=probe-{device}", "train.epochs=5"), tiny)


TESTS = ("-m", "pytest", "-q", "--maxfail=20", "--tb=short", "-rf", "-k", "not gradcheck and not compile")

# By what is worth most, should the time run out.
PARTS = {
    "tests": Part(
        "Are the heads and the kernels right on this card?",
        120,
        # all that fails, up to twenty, in one run; what is slow waits for the last part
        (*TESTS, "tests/gpu/test_heads.py", "tests/gpu/test_kernels.py"),
        (),
        (),
    ),
    "goals": _script(
        "benchmark_kernels",
        "The goals on a 7x7 map",
        60,
        "--only goals",
        "--map 7 --repeats 5 --warmup 2",
        "--map 2 --dim 8 --batch 2 --repeats 1 --warmup 0 --rehearse",
    ),
    "goals_14": _script(
        "benchmark_kernels",
        "The goals on a 14x14 map",
        60,
        "--only goals",
        "--map 14 --repeats 5 --warmup 2",
        "--map 3 --dim 8 --batch 2 --repeats 1 --warmup 0 --rehearse",
    ),
    "solvers": _script(
        "benchmark_kernels",
        "Libraries that decompose",
        60,
        "--only solvers",
        "--sizes 32 49 196 256 --batches 128 --repeats 5",
        "--sizes 8 --batches 2 --repeats 1 --warmup 0",
    ),
    "kernels": _script(
        "benchmark_kernels",
        "Each kernel beside torch operations",
        60,
        "--only kernels",
        "--repeats 10",
        "--dim 8 --batch 2 --repeats 1 --warmup 0 --rehearse",
    ),
    "heads": _script(
        "benchmark_heads",
        "Heads beside their published forms",
        90,
        f"--heads average {' '.join(HEADS)} second_moment gaussian --baseline",
        "--batch 128 --map 7 14 28 --repeats 5",
        "--batch 2 --dim 8 --map 3 --repeats 1 --warmup 0",
    ),
    "resnet50_7": _step("ResNet-50, 7x7 map", "--backbone resnet50", "--backbone resnet20_cifar --image-size 32"),
    "resnet50_14": _step(
        "ResNet-50, 14x14 map",
        "--backbone resnet50 --last-stride 1",
        "--backbone resnet20_cifar --image-size 32 --last-stride 1",
    ),
    "convnext": _step(
        "ConvNeXt-T", "--backbone convnext_tiny", "--backbone convnext_atto --image-size 64 --heads svd_pade"
    ),
    "vit": _step("ViT-S", "--backbone vit_small_patch16_224", "--backbone vit_tiny_patch16_224 --heads svd_pade"),
    "digits_gpu": _digits("A run over the digits on the card", "cuda"),
    "digits_cpu": _digits("The same run on the CPU", "cpu"),
    "probe_gpu": _probe("Cached features on the card", "cuda"),
    "probe_cpu": _probe("The same on the CPU", "cpu"),
    "all_tests": Part("Every test for the card", 240, ("-m", "pytest", "-q", "-rN", "tests/gpu"), (), ()),
}


def run_part(name: str, part: Part, out: Path, rehearse: bool, limit: float) -> dict[str, Any]:
    """Run one part: `title`, `command`, `status` (done, failed, out of time), `seconds`, `output` and `result`."""
    result = out / f"{name}.json"
    places = {"{json}": str(result), "run.dir={out}": f"run.dir={out}"}
    words = [places.get(word, word) for word in (*part.words, *(part.tiny if rehearse else part.sizes))]
    start = time.monotonic()
    # a session of its own, so that the data workers of a part that is stopped end with it
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, status = process.communicate(timeout=limit)[0], "done" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, status = process.communicate()[0], "out of time"
    except BaseException:  # interrupted: a part would go on in its session
        os.killpg(process.pid, signal.SIGKILL)
        raise
    record: dict[str, Any] = {"title": part.title, "command": shlex.join(["python", *words]), "status": status}
    record |= {"seconds": round(time.monotonic() - start, 1), "output": output.strip()}
    return record | ({"result": json.loads(result.read_text())} if result.is_file() else {})


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    about = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        "# GPU report" if not report["rehearsal"] else "# GPU report: a rehearsal on the CPU, no figure counts",
        "",
    ]
    lines += [f"{about['device']}, {about['processor']}; {versions}", ""]
    lines += ["| part | | seconds |", "|---|---|---|"]
    lines += [f"| {part['title']} | {part['status']} | {part['seconds']} |" for part in report["parts"].values()]
    for part in report["parts"].values():
        lines += ["", f"## {part['title']}", "", "```", f"$ {part['command']}", part["output"], "```"]
    return "\n".join(lines) + "\n"


def run_parts(names: Sequence[str], out: Path, rehearse: bool, limit: float) -> dict[str, Any]:
    """Run the parts in their order within `limit` seconds, and write the report after each."""
    device = benchmarking.device_of("cpu" if rehearse else "cuda")
    report: dict[str, Any] = {"environment": describe_environment(device), "rehearsal": rehearse, "parts": {}}
    end = time.monotonic() + limit
    for name in names:
        part, left = PARTS[name], end - time.monotonic()
        if left < 5:
            report["parts"][name] = {
                "title": part.title,
                "command": "",
                "status": "not begun",
                "seconds": 0,
                "output": "",
            }
        else:
            print(f"{part.title} ...", flush=True)
            report["parts"][name] = run_part(name, part, out, rehearse, min(part.limit, left))
        done = report["parts"][name]
        print(f"  {done['status']}, {done['seconds']} s", flush=True)
        write_json(out / "report.json", report)
        write_text(out / "report.md", page(report))
    return report


def main(argv: list[str]) -> int:
    """The command. Returns the exit code: 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="the folder to write (gpu-report)")
    parser.add_argument("--limit", type=benchmarking.whole(1), default=480, help="seconds for all parts (480)")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), metavar="NAME", help=f"of {' '.join(PARTS)} (all)")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    arguments = parser.parse_args(argv)
    for name in arguments.parts:
        if name not in PARTS:
            raise UnknownNameError("part", name, PARTS)
    if not arguments.rehearse:
        try:
            benchmarking.device_of("cuda")
        except argparse.ArgumentTypeError:
            raise DeviceError("no NVIDIA GPU is available here; --rehearse tries every part on the CPU.") from None
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = arguments.out.resolve()
    report = run_parts(arguments.parts, out, arguments.rehearse, arguments.limit)
    print(f"\n{out / 'report.md'}")
    return int(any(part["status"] == "failed" for part in report["parts"].values()))


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
