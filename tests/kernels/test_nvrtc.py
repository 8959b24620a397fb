"""Every instantiation compiles for the card's compilers without a driver, and warns of nothing."""

import re

import pytest

from gcp.kernels.launch import KERNELS, OPTIONS, expressions, text

BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what it adds to the options of a module

nvrtc = pytest.importorskip("cupy", reason="CuPy is not installed: nothing to compile CUDA with").cuda.nvrtc


def compile_for(architecture, source=None, *options):
    """The finished program; whatever the compiler says, a warning too, is an error unless `options` ask for it."""
    program = nvrtc.createProgram(source or text(), "heads.cu", (), ())
    if source is None:
        for expression in expressions():
            nvrtc.addNameExpression(program, expression)
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", *OPTIONS, *BY_CUPY, *options))
        said = nvrtc.getProgramLog(program).strip("\0\n ")
    except nvrtc.NVRTCError:
        said = nvrtc.getProgramLog(program)
    if said and not options:
        raise RuntimeError(said)
    return program


USED = re.compile(
    r"entry function '(?P<name>\w+)'.*?(?P<spilt>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers(?P<rest>.*?)\n",
    re.S,
)
# 65,536 registers of a multiprocessor over blocks of 256 threads: two blocks at 128, three at 80, four at 64.
REGISTERS = {"spectral_core": 96, "triangle_pack": 64, "triangle_spread": 80}


# Turing, Ampere and Hopper; Blackwell in a workstation.
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_every_instantiation_compiles(architecture):
    """Nothing is spilt to memory, and at least two blocks fit on a multiprocessor of any card, of 64 KiB too."""
    program = compile_for(architecture, None, "--ptxas-options=-v")
    assert len(nvrtc.getCUBIN(program)) > 10_000
    said = nvrtc.getProgramLog(program)
    assert "warning" not in said
    names = {nvrtc.getLoweredName(program, expression) for expression in expressions()}
    assert len(names) == sum(len(kernel.instances) for kernel in KERNELS)
    used = list(USED.finditer(said))
    assert {row["name"] for row in used} == names
    for row in used:
        kernel = next(name for name in REGISTERS if name in row["name"])
        assert row["spilt"] == "0" and int(row["registers"]) <= REGISTERS[kernel], row[0]
        shared = re.search(r"(\d+) bytes smem", row["rest"])
        assert shared is None or int(shared[1]) <= 20 * 1024, row[0]


def test_warnings_are_errors():
    with pytest.raises(RuntimeError, match="unused"):
        compile_for("sm_80", "__global__ void f() { int unused; }")


def test_float_kernels_have_no_double_arithmetic():
    """One literal without T(...) would cost a factor of thirty and more on most cards."""
    program = compile_for("compute_80")
    ptx = nvrtc.getPTX(program)
    ptx = ptx.decode() if isinstance(ptx, bytes) else ptx
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)^}", ptx, re.S | re.M))
    assert len(bodies) == len(expressions())
    for expression in expressions():
        body = bodies[nvrtc.getLoweredName(program, expression)]
        assert bool(re.search(r"\.f64", body)) == ("double" in expression), expression
