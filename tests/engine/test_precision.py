import pytest
import torch

from gcp.engine.device import autocast, create_scaler
from gcp.errors import OptionError, UnknownNameError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_a_product_inside_the_region_has_the_dtype_of_the_mode(amp, dtype):
    with autocast(CPU, amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert not torch.is_autocast_enabled("cpu")


def test_the_loss_scale_is_off_unless_fp16():
    for amp in ("none", "bf16"):
        scaler = create_scaler(CPU, amp)
        loss = torch.tensor(3.0)
        assert not scaler.is_enabled() and scaler.scale(loss) is loss and scaler.get_scale() == 1


def test_refusals():
    with pytest.raises(UnknownNameError, match=r"'fp6'.*Did you mean 'fp16'\?"):
        autocast(CPU, "fp6")
    with pytest.raises(OptionError, match=r"run\.amp.*fp16 .*GPU.*run\.amp=bf16"):
        create_scaler(CPU, "fp16")
