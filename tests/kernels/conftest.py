"""`heads.cu` compiled as C++ behind shim.hpp and called by ctypes with the launcher's tables; a GPU that is none."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from gcp import kernels
from gcp.kernels import eigensolver, spectral, triangle
from gcp.kernels.launch import INT, KERNELS, POINTER, ROWS, TILE, blocks, text
from gcp.roots import eigen

HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-Wfloat-conversion", "-Wshadow")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


def symbol(kernel, types):
    return "_".join((kernel.name, *types))


def wrapper(kernel, types):
    """extern "C" function of one instantiation: the kernel's arguments behind those of the grid."""
    real = kernel.real(types)
    kinds = {POINTER: "void*", INT: "int", "real": real}
    parameters = ", ".join(f"{kinds[kind]} {name}" for name, kind in kernel.arguments)
    passed = []
    for i, (name, kind) in enumerate(kernel.arguments):
        passed.append(f"static_cast<argument<{i}, decltype(f)>>({name})" if kind == POINTER else name)
    return (
        f'extern "C" int {symbol(kernel, types)}(unsigned x, unsigned y, {parameters}) {{\n'
        f"  auto* f = &{kernel.expression(types)};\n"
        f"  return run_grid({{x, y}}, {{{TILE}, {ROWS}}}, [&] {{ f({', '.join(passed)}); }});\n}}\n"
    )


ARGUMENT = """
#include <tuple>
template <typename F> struct Signature;
template <typename... A> struct Signature<void (*)(A...)> { using Arguments = std::tuple<A...>; };
template <size_t I, typename F> using argument = std::tuple_element_t<I, typename Signature<F>::Arguments>;
"""


def source():
    wrappers = "".join(wrapper(kernel, types) for kernel in KERNELS for types in kernel.instances)
    return f'#include "{HERE / "shim.hpp"}"\n{text()}\n{ARGUMENT}\n{wrappers}'


def compile_host(folder, flags=()):
    """Path of the shared library; without a compiler the test is skipped."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on this machine: the kernels are not run on the CPU")
    target = Path(folder) / "heads.so"
    program = Path(folder) / "heads.cpp"
    program.write_text(source())
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        "-g",
        "-shared",
        "-fPIC",
        *WARNINGS,
        *flags,
        str(program),
        "-o",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


class Host:
    """Takes the place of `gcp.kernels.launch.launch`; tensors are on the CPU."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))

    def __call__(self, kernel, types, n, batch, arguments):
        real = ctypes.c_float if kernel.real(types) == "float" else ctypes.c_double
        kinds = {POINTER: ctypes.c_void_p, INT: ctypes.c_int, "real": real}
        function = getattr(self.library, symbol(kernel, types))
        function.argtypes = [ctypes.c_uint, ctypes.c_uint, *(kinds[kind] for _, kind in kernel.arguments)]
        places = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
        assert function(*blocks(kernel, n, batch), *places) == 0, "threads of a block took different barriers"


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """Runs a kernel on the CPU."""
    return Host(compile_host(tmp_path_factory.mktemp("host")))


def through_operator(P, solver=None):
    eigenvalues, rows = torch.ops.gcp.eigh(P, solver or "torch")  # the others want a GPU
    return eigenvalues, rows.mT


@pytest.fixture
def as_on_gpu(monkeypatch):
    """as_on_gpu(launch=None): tensors of the CPU go through the operators, to a launcher or to torch operations."""

    def patch(launch=None):
        monkeypatch.setattr(eigensolver, "eigh", through_operator)
        monkeypatch.setattr(kernels, "eigh", through_operator)
        for module in (eigen, triangle):
            monkeypatch.setattr(module, "on_gpu", lambda x: True)
        for module in (spectral, triangle):
            monkeypatch.setattr(module, "runs_kernel", lambda x: launch is not None)
            if launch is not None:
                monkeypatch.setattr(module, "launch", launch)

    return patch


SANITIZED = """
import ctypes, json, sys
import numpy
plan = json.load(open(sys.argv[1]))
data = dict(numpy.load(sys.argv[2]))
library = ctypes.CDLL(sys.argv[3])
for name, kinds, arguments in plan:
    arguments = [data[a].ctypes.data if isinstance(a, str) else a for a in arguments]
    function = getattr(library, name)
    function.argtypes = [getattr(ctypes, kind) for kind in kinds]
    assert function(*arguments) == 0, name
numpy.savez(sys.argv[2], **data)
"""


class Recorder:
    """Takes the place of the launcher too: notes what to run, and runs it later in a process with sanitizers."""

    def __init__(self, library, folder):
        self.library, self.folder, self.plan, self.data = library, folder, [], {}

    def __call__(self, kernel, types, n, batch, arguments):
        kinds, values = ["c_uint", "c_uint"], list(blocks(kernel, n, batch))
        names = {POINTER: "c_void_p", INT: "c_int", "real": f"c_{kernel.real(types)}"}
        for (_, kind), value in zip(kernel.arguments, arguments, strict=True):
            kinds.append(names[kind])
            if isinstance(value, Tensor):
                self.data[f"a{len(self.data)}"] = value
                value = f"a{len(self.data) - 1}"
            values.append(value)
        self.plan.append((symbol(kernel, types), kinds, values))

    def run(self):
        """Run the plan; results are written into the tensors that the launcher was given."""
        plan, data = self.folder / "plan.json", self.folder / "data.npz"
        plan.write_text(json.dumps(self.plan))
        numpy.savez(data, **{name: tensor.numpy() for name, tensor in self.data.items()})
        preload = subprocess.run([shutil.which("g++"), "-print-file-name=libasan.so"], capture_output=True, text=True)
        environment = os.environ | {
            "LD_PRELOAD": preload.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "PYTHONMALLOC": "malloc",
        }
        command = [sys.executable, "-c", SANITIZED, str(plan), str(data), str(self.library)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-4000:]
        with numpy.load(data) as results:
            for name, tensor in self.data.items():
                tensor.copy_(torch.from_numpy(results[name]))


@pytest.fixture(scope="session")
def sanitized_library(tmp_path_factory):
    return compile_host(tmp_path_factory.mktemp("sanitized"), SANITIZERS)


@pytest.fixture
def sanitized(sanitized_library, tmp_path):
    """A launcher whose `run` executes everything at once under the address and undefined-behaviour sanitizers."""
    return Recorder(sanitized_library, tmp_path)
