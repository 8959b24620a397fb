"""Every instantiation compiles for the card's compilers without a driver, and warns of nothing."""

import re

import pytest

from gcp.kernels.launch import KERNELS, OPTIONS, expressions, text

BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what it adds to the options of a module

nvrtc = pytest.importorskip("cupy", reason="CuPy is not installed: nothing to compile CUDA with").cuda.nvrtc


def compile_for(architecture, source=None):
    """The finished program; whatever the compiler says, a warning too, is an error."""
    program = nvrtc.createProgram(source or text(), "heads.cu", (), ())
    if source is None:
        for expression in expressions():
            nvrtc.addNameExpression(program, expression)
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", *OPTIONS, *BY_CUPY))
        said = nvrtc.getProgramLog(program).strip("\0\n ")
    except nvrtc.NVRTCError:
        said = nvrtc.getProgramLog(program)
    if said:
        raise RuntimeError(said)
    return program


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_every_instantiation_compiles(architecture):
    program = compile_for(architecture)
    assert len(nvrtc.getCUBIN(program)) > 10_000
    names = {nvrtc.getLoweredName(program, expression) for expression in expressions()}
    assert len(names) == sum(len(kernel.instances) for kernel in KERNELS)


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
