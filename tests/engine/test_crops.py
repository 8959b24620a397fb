"""Mirror and ten crops against a plain loop over images, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as VF

from gcp.data import Loader
from gcp.data.images import FileSet, TensorSet
from gcp.data.sets.digits import DigitTransform
from gcp.data.transforms import create_transform
from gcp.engine.evaluate import TenCrops, collect, evaluate, with_crops
from gcp.errors import OptionError

CPU = torch.device("cpu")
SIZE = 28  # 256/224 of it is 32


class Small(nn.Module):
    """Not symmetric, so that a mirror matters; logits by position as well as by colour."""

    def __init__(self, chans=3, classes=7, size=SIZE):
        super().__init__()
        self.num_classes = classes
        torch.manual_seed(0)
        self.linear = nn.Linear(chans * size * size, classes)

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.fixture
def files(tmp_path):
    """Images of different shapes, one of them as_shown."""
    generator = np.random.default_rng(0)
    shapes = [(40, 60), (60, 40), (32, 32), (90, 41), (33, 80)]
    paths = []
    for number, shape in enumerate(shapes):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def resized(image, transform):
    """(C, h, w) resized to 256/224 of SIZE: the short side, or both."""
    if transform in ("square", "square_crop"):
        return VF.resize(image, [32, 32])
    return VF.resize(image, [32])


def ten_crops(image):
    """Corners and centre of (C, h, w) and of its mirror image, by slicing."""
    height, width = image.shape[1:]
    top, left = round((height - SIZE) / 2), round((width - SIZE) / 2)
    corners = [(0, 0), (0, width - SIZE), (height - SIZE, 0), (height - SIZE, width - SIZE), (top, left)]
    return [each[:, y : y + SIZE, x : x + SIZE] for each in (image, image.flip(2)) for y, x in corners]


def test_the_views_are_those_of_torchvision():
    """Also where the width of the image minus that of the crop is odd."""
    for width in (32, 33, 45):
        image = torch.arange(3 * 32 * width).remainder(256).to(torch.uint8).view(3, 32, width)
        views = TenCrops(create_transform("none", "center_crop", SIZE, 3), SIZE)([image], None)[0]
        mirrored = [view.flip(2) for view in (*views[:4], views[5])]
        wanted = VF.ten_crop(image, [SIZE, SIZE])
        assert {view.numpy().tobytes() for view in (*views[:5], *mirrored)} == {
            view.numpy().tobytes() for view in wanted
        }
        assert torch.equal(mirrored[4], wanted[9]) and torch.equal(views[5], views[4]) == (width == 32)


@pytest.mark.parametrize("name", ["random_resized_crop", "center_crop", "square_crop", "square", "modern"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_ten_crops_by_hand(name, batch, files):
    transform = create_transform("none", name, SIZE, 3)
    labels = [0, 3, 6, 3, 1]
    images = FileSet(files, labels, transform, 3)
    model = Small().eval()
    loader = Loader(with_crops(images, "ten", SIZE), batch, train=False, workers=0)
    got = collect(model, loader, CPU, crops="ten")
    for index, path in enumerate(files):
        image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        views = torch.stack(ten_crops(resized(image, name)))
        logits = torch.stack([model(transform.normalize(view[None]))[0] for view in views]).mean(0)
        expected = logits.double().softmax(0).sort(descending=True)
        assert got.classes[index].tolist() == expected.indices[:5].tolist()
        assert torch.allclose(got.probabilities[index], expected.values[:5], atol=1e-6)
        assert got.losses[index] == pytest.approx(-logits.log_softmax(0)[labels[index]].item(), abs=1e-5)


def test_mirror_by_hand(files):
    transform = create_transform("none", "center_crop", SIZE, 3)
    images = FileSet(files, [0, 3, 6, 3, 1], transform, 3)
    model = Small().eval()
    same = with_crops(images, "mirror", SIZE)
    assert same is images
    got = collect(model, Loader(same, 2, train=False, workers=0), CPU, crops="mirror")
    for index in range(len(files)):
        view = transform.normalize(images[index][0][None])
        logits = (model(view) + model(view.flip(3)))[0] / 2
        assert torch.allclose(got.probabilities[index, 0], logits.double().softmax(0).max(), atol=1e-6)


def test_the_mean_is_of_logits_not_of_probabilities():
    class Constant(nn.Module):
        num_classes = 2

        def forward(self, images):
            left = images[:, 0, 0, 0] > 0.5
            return torch.where(left[:, None], torch.tensor([8.0, 0.0]), torch.tensor([0.0, 4.0]))

    image = torch.zeros(1, 1, 4, 4)
    image[..., 0] = 1.0
    transform = create_transform("none", "square", 4, 1)
    transform.transform.normalize = transform.normalize = lambda images: images
    got = collect(Constant(), Loader(TensorSet(image, [0], transform), 1, train=False), CPU, crops="mirror")
    assert got.confidence.item() == pytest.approx(1 / (1 + np.exp(-2)))  # of logits (4, 2)


def test_images_in_memory_are_resized_after_their_own_transform():
    stored = torch.randint(0, 17, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    transform = DigitTransform(SIZE, 1)
    images = with_crops(TensorSet(stored, [0, 1, 2], transform), "ten", SIZE)
    got, _ = images.read([0, 1, 2])
    assert got.shape == (3, 6, 1, SIZE, SIZE)
    whole = VF.resize(transform(stored, None), [32])
    for index in range(3):
        assert torch.allclose(got[index][:5], torch.stack(ten_crops(whole[index])[:5]))


def test_more_crops_count_each_image_once(files):
    images = FileSet(files, [0, 3, 6, 3, 1], create_transform("none", "square", SIZE, 3), 3)
    loader = Loader(with_crops(images, "ten", SIZE), 2, train=False, workers=0)
    assert evaluate(Small(), loader, CPU, crops="ten").count == 5


def test_unknown_crops(files):
    images = FileSet(files, [0] * 5, create_transform("none", "square", SIZE, 3), 3)
    with pytest.raises(OptionError, match=r"crops .*'mirrored'; allowed: one, mirror, ten.*Did you mean 'mirror'\?"):
        with_crops(images, "mirrored", SIZE)
    with pytest.raises(OptionError, match="crops is 'five'"):
        evaluate(Small(), Loader(images, 2, train=False, workers=0), CPU, crops="five")
