import json
import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score
from torch import nn

from gcp.data import Loader
from gcp.data.images import TensorSet
from gcp.data.rank_slice import WHOLE
from gcp.engine.evaluate import Scores, evaluate
from gcp.errors import DataError, NonFiniteError, OptionError

CPU = torch.device("cpu")


class Table(nn.Module):
    """The images are the logits."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.modes = []

    def forward(self, images):
        self.modes.append(self.training)
        return images.flatten(1)


class AsTheyAre:
    def normalize(self, images):
        return images

    def __call__(self, images, seeds):
        return images


def table(count, classes, labels=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 1, 1, classes, generator=generator)
    if labels is None:
        labels = (torch.randperm(count, generator=generator) % classes).tolist()
    return TensorSet(logits, labels, AsTheyAre())


def score(dataset, batch, classes):
    return evaluate(Table(classes), Loader(dataset, batch, train=False), CPU)


@pytest.mark.parametrize("batch", [1, 2, 7, 16, 36, 37, 100])
@pytest.mark.parametrize("classes", [3, 5, 6, 10])
def test_exact_for_every_batch_size(batch, classes):
    """37 images are a multiple of no batch size between 1 and 37."""
    dataset = table(37, classes)
    logits, labels = dataset.images.flatten(1).numpy(), dataset.labels
    got = score(dataset, batch, classes)
    every = list(range(classes))
    assert got.count == 37
    assert got.top1 == 100 * (logits.argmax(1) == labels).sum() / 37
    assert got.macro == pytest.approx(100 * balanced_accuracy_score(labels, logits.argmax(1)), rel=1e-12)
    probabilities = dataset.images.flatten(1).double().softmax(1).numpy()
    assert got.loss == pytest.approx(log_loss(labels, probabilities, labels=every), rel=1e-6)
    if classes > 5:
        right = top_k_accuracy_score(labels, logits, k=5, labels=every, normalize=False)
        assert got.top5 == 100 * right / 37
    else:
        assert got.top5 is None


def test_macro_accuracy_by_hand():
    """Three classes occur, with 3 of 4, 0 of 1 and 1 of 2 right; the fourth does not count."""
    labels, predictions = [0, 0, 0, 0, 1, 2, 2], [0, 0, 0, 2, 3, 2, 0]
    logits = nn.functional.one_hot(torch.tensor(predictions), 4).float()[:, None, None]
    got = score(TensorSet(logits, labels, AsTheyAre()), 3, 4)
    assert got.macro == pytest.approx(100 * (3 / 4 + 0 + 1 / 2) / 3)
    assert got.top1 == pytest.approx(100 * 4 / 7)


def test_a_batch_does_not_weigh_more_because_it_is_small():
    """One wrong image in a last batch of one."""
    logits = torch.zeros(9, 1, 1, 2)
    logits[:8, ..., 0], logits[8, ..., 1] = 10, 10
    got = score(TensorSet(logits, [0] * 9, AsTheyAre()), 4, 2)
    assert got.top1 == pytest.approx(100 * 8 / 9)
    assert got.loss == pytest.approx((9 * math.log1p(math.exp(-10)) + 10) / 9)


@pytest.mark.parametrize("training", [True, False])
def test_eval_mode_during_and_the_old_mode_after(training):
    model = Table(3).train(training)
    evaluate(model, Loader(table(5, 3), 2, train=False), CPU)
    assert model.modes == [False] * 3 and model.training is training
    with pytest.raises(NonFiniteError):
        bad = table(5, 3)
        bad.images[4] = float("nan")
        evaluate(model, Loader(bad, 2, train=False), CPU)
    assert model.training is training


def test_batch_norm_and_dropout_are_those_of_evaluation(toy):
    model = toy.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loader = toy.loader(batch=7, train=False)
    first = evaluate(model, loader, CPU)
    assert evaluate(model, loader, CPU) == first
    whole = evaluate(model, toy.loader(batch=20, train=False), CPU)
    assert whole.top1 == first.top1 and whole.loss == pytest.approx(first.loss, rel=1e-6)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_no_gradient_is_recorded(toy):
    seen = []
    model = toy.model()
    model.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    evaluate(model, toy.loader(train=False), CPU, channels_last=True)
    assert seen == [False] * 7


def test_mixed_precision_comes_near(toy):
    model = toy.model()
    exact, rough = (evaluate(model, toy.loader(train=False), CPU, amp) for amp in ("none", "bf16"))
    assert rough.loss == pytest.approx(exact.loss, rel=0.05) and rough.loss != exact.loss


def test_non_finite_logits_are_counted():
    dataset = table(7, 3)
    dataset.images[2, ..., 1] = float("nan")
    dataset.images[6, ..., 0] = float("inf")
    with pytest.raises(NonFiniteError, match="evaluation: 2 of 7 images have non-finite logits"):
        score(dataset, 3, 3)


def test_non_finite_features_name_the_batch(toy):
    loader = toy.loader(train=False)
    loader.dataset.images[7] = float("inf")
    with pytest.raises(NonFiniteError, match=r"stopped at batch 3\b.*sample 1 .*inf or NaN"):
        evaluate(toy.model(), loader, CPU)


def test_an_empty_split():
    class Empty:
        normalize, rank_slice = None, WHOLE

        def __len__(self):
            return 0

        def epoch(self, epoch, start=0):
            return iter(())

    with pytest.raises(DataError, match="the split to be scored has no images"):
        evaluate(Table(3), Empty(), CPU)
    with pytest.raises(OptionError, match="0 images make no batch of 4: the split is empty"):
        Loader(table(0, 3), 4, train=False)


def test_scores_go_into_json():
    scores = Scores(loss=0.5, top1=90.0, top5=None, macro=80.0, count=10)
    assert json.loads(json.dumps(scores.as_dict())) == {
        "loss": 0.5,
        "top1": 90.0,
        "top5": None,
        "macro": 80.0,
        "count": 10,
    }
