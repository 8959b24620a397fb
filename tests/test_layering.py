"""Imports point downwards only, and the check that says so is itself checked."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"command", "errors", "registry", "options"},
    {"ops"},
    {"gradients", "functions"},
    {"kernels"},
    {"roots"},
    {"solvers"},
    {"functional"},
    {"layers"},
    {"heads"},
    {"compress"},
    {"evolve"},
    {"models", "flow"},
    {"data"},
    {"loggers"},
    {"config"},
    {"drawing", "measure"},
    {"engine"},
    {"callbacks"},
    {"runs"},
    {"evaluation"},
    {"studies"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FORBIDDEN = {("engine", "config")}  # the engine takes plain arguments
ABOVE = {"__init__", "__main__", "timm"}  # they stand on everything


def imported_layers(tree, module, is_package):
    """(line, layer) of every import of the package inside a module, relative ones and those in functions too."""
    package = module if is_package else module[:-1]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names] if len(base) == 1 else [base]
        for name in names:
            if name[0] == "gcp":
                yield node.lineno, name[1] if len(name) > 1 else "gcp"


def violations(root):
    """`file:line: what` of every import that does not point downwards, under root/gcp."""
    found = []
    for path in sorted((root / "gcp").rglob("*.py")):
        relative = path.relative_to(root)
        module = relative.with_suffix("").parts
        layer = module[1]
        if layer in ABOVE:
            continue
        if layer not in RANK:
            found.append(f"{relative}:1: {layer!r} is in no layer")
            continue
        tree = ast.parse(path.read_text(), str(path))
        is_package = module[-1] == "__init__"
        for line, target in imported_layers(tree, module[:-1] if is_package else module, is_package):
            if target == layer:
                continue
            upwards = RANK.get(target, len(LAYERS)) >= RANK[layer]
            same_rank = target in LAYERS[0] and layer in LAYERS[0]
            if (upwards and not same_rank) or (layer, target) in FORBIDDEN:
                found.append(f"{relative}:{line}: {layer} imports {target}")
    return found


def test_imports_point_downwards():
    assert violations(ROOT) == []


def write(root, files):
    for name, text in files.items():
        path = root / "gcp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ops/a.py", "import torch\nimport gcp.heads\n", "gcp/ops/a.py:2: ops imports heads"),
        ("ops/a.py", "def f():\n    from gcp.roots.root import Root\n", "gcp/ops/a.py:2: ops imports roots"),
        ("ops/a.py", "from gcp import models\n", "gcp/ops/a.py:1: ops imports models"),
        ("ops/a.py", "from ..cli import main\n", "gcp/ops/a.py:1: ops imports cli"),
        ("ops/__init__.py", "from ..heads import base\n", "gcp/ops/__init__.py:1: ops imports heads"),
        ("ops/deep/a.py", "from ...data.digits import x\n", "gcp/ops/deep/a.py:1: ops imports data"),
        ("heads/a.py", "from gcp import create_model\n", "gcp/heads/a.py:1: heads imports create_model"),
        ("heads/a.py", "import gcp\n", "gcp/heads/a.py:1: heads imports gcp"),
        ("gradients/a.py", "import gcp.solvers\n", "gcp/gradients/a.py:1: gradients imports solvers"),
        ("roots/a.py", "from gcp.solvers import SOLVERS\n", "gcp/roots/a.py:1: roots imports solvers"),
        ("engine/a.py", "x = 1\nfrom gcp.config import load\n", "gcp/engine/a.py:2: engine imports config"),
        ("errors.py", "from gcp.ops import sym\n", "gcp/errors.py:1: errors imports ops"),
        ("utils.py", "", "gcp/utils.py:1: 'utils' is in no layer"),
    ],
)
def test_a_violation_is_found(tmp_path, name, text, expected):
    write(tmp_path, {name: text})
    assert violations(tmp_path) == [expected]


def test_downward_imports_are_fine(tmp_path):
    write(
        tmp_path,
        {
            "__init__.py": "from gcp.cli import main\n",
            "registry.py": "from gcp.errors import GCPError\n",
            "heads/a.py": "from . import b\nfrom .b import x\nfrom ..ops import y\nimport gcp.roots.root\n",
            "cli/a.py": "from gcp import engine\nfrom gcp.config import load\n",
        },
    )
    assert violations(tmp_path) == []
