"""How long the walk through this code is, in numbers.

    python scripts/house.py            print them
    python scripts/house.py --check    and fail where one of them is above its limit
    python scripts/house.py --list     and name the files behind the numbers

A digits run with `svd_pade` is made in a process of its own, and so is one forward and backward of that head; what is
counted are the files of `gcp` in which a function was executed, and the modules of `gcp` that were imported.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gcp"
SHORT = 80  # lines below which a file with one importer has to justify itself

# The words by which a callback would be known. `engine` and `runs` know callbacks by their common interface only.
CALLBACK_WORDS = ("hybrid", "monitor", "evolution", "evolve", "conditioning", "spectrum")

RUN = """
import json, sys, threading
executed = set()

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_flags & 1 and code.co_filename.startswith(PACKAGE):  # 1: a function, not a class
        executed.add(code.co_filename)

sys.path.insert(0, ROOT)
import gcp.heads.base
heads, begin = [], gcp.heads.base.Head.__init__

def counted(self, *args, **kwargs):
    heads.append(type(self).__name__)
    begin(self, *args, **kwargs)

gcp.heads.base.Head.__init__ = counted
threading.setprofile(note)
sys.setprofile(note)
{action}
sys.setprofile(None)
modules = sorted(name for name in sys.modules if name == "gcp" or name.startswith("gcp."))
json.dump({{"executed": sorted(executed), "modules": modules, "heads": heads}}, open(OUT, "w"))
"""

DIGITS = """
from gcp.cli.train import main
words = "data.image_size=16 train.epochs=1 data.per_class=8 run.device=cpu run.threads=1 data.workers=0"
main(["--config", ROOT + "/configs/digits/resnet.yaml", "run.dir=" + FOLDER, *words.split()])
"""

HEAD = """
import torch
head = gcp.create_head("svd_pade", 8)
executed.clear()
x = torch.rand(2, 8, 7, 7, dtype=torch.float64, requires_grad=True)
head(x).sum().backward()
"""


def measure(action: str) -> dict:
    """Executed files (relative to the project), imported modules and built heads of an action in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        text = f"ROOT, PACKAGE, OUT, FOLDER = {str(ROOT)!r}, {str(PACKAGE)!r}, {str(out)!r}, {folder!r}\n"
        text += RUN.format(action=action)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
        if done.returncode or not out.is_file():
            sys.exit(f"the measured run failed with exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        found = json.loads(out.read_text())
    found["executed"] = [str(Path(path).relative_to(ROOT)) for path in found["executed"]]
    return found


def trees() -> dict[str, ast.Module]:
    """The syntax trees of all files of the package, by their path in the project."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(), str(path)) for path in paths}


def module_of(path: str) -> str:
    """The name under which a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def importers(files: dict[str, ast.Module]) -> dict[str, set[str]]:
    """For each file, the files that import it or a name of it."""
    by_module = {module_of(path): path for path in files}
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in files.items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name in by_module and by_module[name] != path:
                    found[by_module[name]].add(path)
    return found


def repeated_classes(files: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Class names that stand in more than one file, with the files."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def callback_words(files: dict[str, ast.Module]) -> list[str]:
    """`file:line: word` of every identifier or string in `engine` and `runs` that names a callback."""
    found = []
    for path, tree in files.items():
        if not path.startswith(("gcp/engine/", "gcp/runs/")):
            continue
        for node in ast.walk(tree):
            text = " ".join(
                str(value)
                for field in ("id", "attr", "name", "arg", "module", "value")
                if isinstance(value := getattr(node, field, None), str)
            ).lower()
            found += [f"{path}:{node.lineno}: {word}" for word in CALLBACK_WORDS if word in text]
    return found


def function_lengths(files: dict[str, ast.Module]) -> list[tuple[int, str]]:
    """(lines, `file:function`) of every function, the longest first."""
    lengths = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.name}")
        for path, tree in files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(lengths, reverse=True)


def main() -> int:
    """Print the table. With --check the exit code is 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a number is above its limit")
    parser.add_argument("--list", action="store_true", help="name the files behind the numbers")
    parser.add_argument("--json", type=Path, help="write the numbers into a file")
    arguments = parser.parse_args()

    files = trees()
    lines = {path: len(Path(ROOT, path).read_text().splitlines()) for path in files}
    code = {path: count for path, count in lines.items() if not path.endswith("__init__.py")}
    imported = importers(files)
    lonely = [path for path, count in code.items() if count < SHORT and len(imported[path]) == 1]
    functions = function_lengths(files)
    digits, head = measure(DIGITS), measure(HEAD)
    details = {
        "files with executed functions": digits["executed"],
        "imported modules": digits["modules"],
        "heads built": digits["heads"],
        "files of svd_pade": head["executed"],
        "callback words": callback_words(files),
        "repeated class names": [f"{name}: {', '.join(places)}" for name, places in repeated_classes(files).items()],
        "short files with one importer": lonely,
        "files over 400 lines": [path for path, count in code.items() if count > 400],
    }
    limits = {
        "files with executed functions": 75,
        "imported modules": 180,
        "heads built": 1,
        "files of svd_pade": 8,
        "callback words": 0,
        "repeated class names": 0,
        "files over 400 lines": 0,
    }
    numbers: dict[str, float] = {name: len(found) for name, found in details.items()}
    numbers |= {
        "lines": sum(lines.values()),
        "files": len(files),
        "median lines of a file": median(code.values()),
        "longest file": max(code.values()),
        "longest function": functions[0][0],
    }
    over = [name for name, limit in limits.items() if numbers[name] > limit]
    for name, number in numbers.items():
        limit = f"at most {limits[name]}" if name in limits else ""
        print(f"{name:<32}{number:>8g}   {limit}{'   ABOVE THE LIMIT' if name in over else ''}".rstrip())
    if arguments.list or over:
        for name, found in details.items():
            if arguments.list or name in over:
                print(f"\n{name}:")
                print("\n".join(f"  {line}" for line in dict.fromkeys(found)))
        folders = Counter(path.split("/")[1] for path in digits["executed"])
        print("\nexecuted by folder:", ", ".join(f"{name} {count}" for name, count in folders.most_common()))
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 1 if arguments.check and over else 0


if __name__ == "__main__":
    sys.exit(main())
