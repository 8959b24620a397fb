"""A run lets its head see the first batches once: in one process or several, killed and resumed, in every stage."""

import shutil

import torch

WORDS = ["head.mean=concat", "head.output_scale=measured", "head.reduction_init=pca"]


def head_of(run, name="last.pt", part="model"):
    weights = torch.load(f"runs/{run}/{name}", weights_only=True)[part]
    return {key.removeprefix("head."): value for key, value in weights.items() if key.startswith("head.")}


def test_measured_once_and_kept(small, zygote, here, same_runs, evaluate):
    answer = small(*WORDS, "run.name=whole")
    assert answer.code == 0 and answer.out.count("40 images seen by the head") == 1
    kept = head_of("whole")
    assert int(kept["measured_on"]) == 40 and (kept["scales"] != 1).all()
    for part in ("ema", "model"):
        assert torch.equal(head_of("whole", part=part)["scales"], kept["scales"])
    assert torch.equal(head_of("whole", "best.pt")["scales"], kept["scales"])
    # killed after a step, and before there is a checkpoint
    for moment in ("gcp.engine.train:update:4:after", "gcp.engine.train:update:1:after"):
        killed = zygote.train(here, "--config", "small.yaml", *WORDS, "run.name=x", moment=moment)
        assert killed.code == -9
        again = zygote.train(here, "resume=runs/x")
        assert again.code == 0, again.err
        same_runs("runs/x", "runs/whole")
        shutil.rmtree("runs/x")
    scored = evaluate("--checkpoint", "runs/whole/best.pt")
    assert scored.code == 0, scored.err


def test_two_processes(zygote, here):
    words = ["--config", "small.yaml", "model.dropout=0", *WORDS]
    codes, out, err = zygote.together(2, here, *words, "run.name=two")
    assert codes == [0, 0], err
    assert out.count("40 images seen by the head") == 1
    assert zygote.train(here, *words, "run.name=one").code == 0
    for key in ("scales", "measured_on"):
        torch.testing.assert_close(head_of("two")[key], head_of("one")[key], rtol=1e-4, atol=0)


def test_a_later_stage_keeps_what_the_first_one_measured(small):
    stages = "stages=[{train: {epochs: 1}}, {train: {epochs: 1}, model: {freeze: [features]}}]"
    answer = small(*WORDS, stages, "run.name=staged")
    assert answer.code == 0, answer.err
    assert answer.out.count("images seen by the head") == 1
    assert torch.equal(head_of("staged/stage-1")["scales"], head_of("staged/stage-2")["scales"])


def test_faults(small, refused):
    text = refused(small("head.reduction_init=pca", "head.dim=null"))
    assert "head.reduction_init" in text and "head.dim" in text
    text = refused(small("head.mean=concat", "head.name=average"))
    assert "head.mean" in text and "average" in text
    text = refused(small("head.output_scale=mesured"))
    assert "head.output_scale" in text and "measured" in text
