"""Operations of a recipe: counted on its model, against a count by hand."""

import pytest
from recipe_cost import cost, main


def test_a_recipe_is_counted():
    """ResNet-50 forward is 4.1e9 multiplications at 224 pixels, the head adds its reduction and two products."""
    epochs, images, gflops = cost("imagenet/resnet50")
    head = 2 * 49 * (2048 * 256 + 256 * 256 + 49 * 256) / 1e9
    assert (epochs, images) == (60, 1281167)
    assert gflops == pytest.approx(8.18 + head, rel=0.02)


def test_the_table(call):
    code, out, _ = call(main, ["cifar10/resnet56_whitening", "--tflops", 50])
    assert code == 0 and "| cifar10/resnet56_whitening | 50,000 | 160 |" in out
    assert cost("digits/resnet") is None


@pytest.mark.parametrize("words", [["nothing"], ["--tflops", "0"]])
def test_mistakes(call, words):
    code, _, err = call(main, words)
    assert code == 2 and ("list recipes" in err or "--tflops" in err)
