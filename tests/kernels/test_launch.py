"""What a launch hands to CuPy, by a CuPy that writes it down: stream and device of torch, and arguments by width."""

import logging
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from gcp.kernels import launch
from gcp.kernels.launch import KERNELS, SPECTRAL_CORE, TILE, TRIANGLE_PACK, TRIANGLE_SPREAD, expressions


class Entered:
    """A stream or device of CuPy: notes that it was made current, and for how long."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __enter__(self):
        self.log.append(("enter", self.name))

    def __exit__(self, *error):
        self.log.append(("exit", self.name))


class CuPy:
    """As much of it as a launch uses."""

    def __init__(self, driver=True, nvrtc="", from_external=True):
        self.log, self.modules = [], []

        def version():
            if nvrtc:
                raise RuntimeError(nvrtc)
            return 13, 2

        stream = SimpleNamespace()
        if from_external:
            stream.from_external = lambda foreign: Entered(self.log, f"stream {foreign.__cuda_stream__()[1]}")
        self.cuda = SimpleNamespace(
            is_available=lambda: driver,
            nvrtc=SimpleNamespace(getVersion=version),
            Device=lambda index: Entered(self.log, f"device {index}"),
            Stream=stream,
            ExternalStream=lambda pointer, index: Entered(self.log, f"external {pointer} on {index}"),
        )

    def RawModule(self, **arguments):
        self.modules.append(arguments)

        def get_function(name):
            self.log.append(("load", name))
            return lambda *launched: self.log.append(("launch", name, *launched))

        return SimpleNamespace(get_function=get_function)


@pytest.fixture
def cupy(monkeypatch):
    """cupy(**what it can do): takes the place of CuPy, with torch on stream 4711."""

    def install(protocol=True, **can):
        fake = CuPy(**can)
        monkeypatch.setitem(sys.modules, "cupy", fake)
        stream = SimpleNamespace(cuda_stream=4711)
        if protocol:
            stream.__cuda_stream__ = lambda: (0, 4711)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
        return fake

    caches = launch.available, launch._module, launch._function
    for cache in caches:
        cache.cache_clear()
    yield install
    for cache in caches:
        cache.cache_clear()


def test_a_launch(cupy):
    """On torch's stream; compiled once, loaded once for each function."""
    fake = cupy()
    kept, S = torch.rand(3, 40), torch.rand(3, 40, 40)
    core, w0, terms = torch.empty_like(S), torch.empty_like(kept), torch.empty_like(kept)
    for _ in range(2):
        arguments = (kept, S, core, w0, terms, 101.0, 0.0, 0.0, 40, 40, 3, True)
        launch.launch(SPECTRAL_CORE, ("float", "Sqrt", "Taylor"), 40, 3, arguments)
    name = "spectral_core<float, Sqrt, Taylor>"
    (loaded,) = [entry for entry in fake.log if entry[0] == "load"]
    assert loaded == ("load", name) and len(fake.modules) == 1
    assert set(fake.modules[0]["name_expressions"]) == set(expressions("Sqrt")) < set(expressions())
    first = fake.log[: len(fake.log) // 2 + 1]
    assert [entry[:2] for entry in first] == [
        ("enter", "device None"),
        ("enter", "stream 4711"),
        ("load", name),
        ("launch", name),
        ("exit", "stream 4711"),
        ("exit", "device None"),
    ]
    _, _, grid, block, passed = first[3]
    assert (grid, block) == ((3, 3), (32, 8)) and type(grid) is type(block) is type(passed) is tuple
    assert [int(value) for value in passed[:5]] == [t.data_ptr() for t in (kept, S, core, w0, terms)]
    assert passed[5:] == (101.0, 0.0, 0.0, 40, 40, 3, 1)


def test_every_kernel_of_the_source_is_in_the_table():
    """What compiles, runs and sanitizes kernels in the tests draws them from KERNELS."""
    package = Path(launch.__file__).parents[1]
    assert [path.name for path in package.rglob("*.cu*")] == ["heads.cu"]
    declared = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(", launch.text())
    assert launch.text().count("__global__") == len(declared)
    assert sorted(declared) == sorted(kernel.name for kernel in KERNELS)
    described = [value for value in vars(launch).values() if isinstance(value, launch.Kernel)]
    assert sorted(kernel.name for kernel in described) == sorted(declared)
    for name in expressions():
        assert name.partition("<")[0] in declared
    compiling = re.compile(r"RawModule|RawKernel|(Elementwise|Reduction)Kernel|load_inline|nvrtc\.createProgram")
    by = [path.name for path in package.rglob("*.py") if compiling.search(path.read_text(encoding="utf-8"))]
    assert by == ["launch.py"]  # no source is compiled that is in a string elsewhere


@pytest.mark.parametrize("kernel", KERNELS, ids=[kernel.name for kernel in KERNELS])
def test_widths_are_those_that_the_source_declares(kernel):
    """CuPy copies as many bytes as a scalar has and asks no kernel for its signature."""
    for types in kernel.instances:
        values = [{"pointer": torch.ones(1), "real": 0.5, "int": 3}[kind] for _, kind in kernel.arguments]
        wanted = {"pointer": numpy.uint64, "int": numpy.int32}
        wanted["real"] = {"float": numpy.float32, "double": numpy.float64}[kernel.real(types)]
        got = launch.typed(kernel, types, tuple(values))
        assert [type(value) for value in got] == [wanted[kind] for _, kind in kernel.arguments]


@pytest.mark.parametrize(
    ("protocol", "from_external", "expected"),
    [
        (True, True, "stream 4711"),
        (True, False, "external 4711 on None"),  # CuPy 13
        (False, True, "external 4711 on None"),  # torch 2.8
    ],
)
def test_stream_by_what_both_sides_know(cupy, protocol, from_external, expected):
    fake = cupy(protocol=protocol, from_external=from_external)
    with launch.on_stream_of(torch.ones(1)):
        assert fake.log[-1] == ("enter", expected)


def test_nothing_is_launched_for_an_empty_batch(cupy):
    fake = cupy()
    launch.launch(TRIANGLE_PACK, ("float", "float"), 5, 0, (torch.ones(0, 5, 5), torch.ones(0, 15), 5, 0))
    assert not fake.log and not fake.modules


def test_a_grid_within_the_limits_of_the_card():
    for kernel in KERNELS:
        x, y = launch.blocks(kernel, 4096, 200_000)
        assert x < 2**31 and y == 65535
    assert launch.blocks(TRIANGLE_SPREAD, TILE, 1) == (1, 1) and launch.blocks(TRIANGLE_SPREAD, TILE + 1, 1) == (3, 1)


@pytest.mark.parametrize(
    ("can", "message"),
    [
        ({"driver": False}, "CuPy finds no driver that it can use"),
        (
            {"nvrtc": "no libnvrtc.so.13"},
            r"CuPy .*no libnvrtc\.so\.13\b.*install the CuPy",
        ),
    ],
    ids=["driver", "nvrtc"],
)
def test_a_cupy_that_cannot_compile_is_none(cupy, caplog, can, message):
    cupy(**can)
    with caplog.at_level(logging.WARNING, "gcp"):
        assert not launch.available() and not launch.available()
    (said,) = caplog.records
    assert re.search(message, said.getMessage())


def test_a_cupy_that_can(cupy):
    cupy()
    assert launch.available()
