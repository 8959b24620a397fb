"""A data set of one's own by name: where its module is imported and where not, what it may return, and its runs."""

import sys

import pytest

import gcp.cli.check_dataset
from gcp.cli.main import run
from gcp.config import from_dict, load
from gcp.data import DATASETS, create_dataset, import_dataset
from gcp.errors import ConfigError, DataError, OptionError

MODULE = """
import torch
from torch.utils.data import TensorDataset

def pairs(count, seed):
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return TensorDataset(pixels, torch.arange(count) % 4)

def noise():
    "Noise of four classes."
    return {"train": pairs(40, 0), "test": pairs(12, 1), "classes": list("abcd")}

def rooted(root):
    assert root == "here"
    return noise()

def made(image_size, in_chans):
    from gcp.data import from_torch
    return from_torch(**noise(), transform="resize", image_size=image_size, in_chans=in_chans)

def stubborn():
    return made(16, 3)

def listed():
    return [1, 2]

def misspelt():
    return {"train": pairs(40, 0), "tset": pairs(12, 1)}

def demanding(colour):
    return noise()

def broken():
    raise FileNotFoundError("no such shelf")
"""


@pytest.fixture(autouse=True)
def forgotten():
    """Leave registry and modules as they were."""
    entries, modules, path = dict(DATASETS._entries), set(sys.modules), list(sys.path)
    yield
    DATASETS._entries = entries
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("shelf"):
            del sys.modules[name]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """The folder at hand holds shelf.py."""
    (tmp_path / "shelf.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(name, **options):
    import_dataset(f"shelf:{name}")
    return create_dataset(f"shelf:{name}", image_size=8, **options)


def test_what_it_may_return(shelf):
    for splits in (of("noise"), of("rooted", root="here"), of("made")):
        assert [len(each) for each in (splits.train, splits.val, splits.test)] == [36, 4, 12]
        assert splits.classes == tuple("abcd") and splits.train[0][0].shape == (3, 8, 8)
    assert DATASETS["shelf:noise"].summary == "Noise of four classes."
    assert len(of("noise", per_class=2, val_fraction=0.2, transform="pad_crop").train) == 8


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("listed", DataError, r"returns a list; allowed: Splits, .*'train'"),
        ("misspelt", DataError, "returns 'tset'.*Did you mean 'test'"),
        ("demanding", OptionError, r"'colour'; allowed .*root, image_size"),
        ("rooted", OptionError, r"data\.root.*rooted.*data\.root=FOLDER"),
        ("broken", DataError, r"broken .*shelf\.py .*FileNotFoundError: no such shelf"),
        ("stubborn", DataError, r"\(3, 16, 16\).*\(3, 8, 8\)"),
        ("nose", OptionError, r"shelf\.py .*'nose'.*Did you mean 'noise'"),
    ],
)
def test_one_clear_error(shelf, name, error, message):
    with pytest.raises(error, match=message):
        of(name)


def test_a_module_that_cannot_be_imported(shelf):
    (shelf / "shelf2.py").write_text("import nothing_of_that_name")
    (shelf / "shelf3.py").write_text("1 / 0")
    for name, message in {
        "shelv:noise": r"'shelv'.*MODULE:FUNCTION",
        "shelf2:noise": "cannot import shelf2: No module named 'nothing_of_that_name'",
        "shelf3:noise": "cannot import shelf3: ZeroDivisionError",
    }.items():
        with pytest.raises(OptionError, match=message):
            import_dataset(name)


def test_registered_by_a_name_of_its_own(shelf):
    (shelf / "shelf4.py").write_text(
        "from gcp.data import DATASETS\nfrom shelf import noise\n"
        "DATASETS.register('noise-of-mine', summary='noise')(noise)\n"
    )
    sys.path.append(str(shelf))
    import shelf4  # noqa: F401

    assert len(create_dataset("noise-of-mine", image_size=8).train) == 36


def test_a_configuration_of_the_user_imports_it_and_a_checkpoint_does_not(shelf):
    with pytest.raises(ConfigError, match=r"data\.name.*shelf:noise .*add data\.name=shelf:noise"):
        from_dict({"data": {"name": "shelf:noise"}})
    assert "shelf" not in sys.modules
    assert from_dict({"data": {"name": "shelf:rooted"}}, ["data.name=shelf:noise"]).data.name == "shelf:noise"
    (shelf / "run.yaml").write_text("data: {name: 'shelf:made'}\n")
    assert load("run.yaml").data.name == "shelf:made" and "shelf:made" in DATASETS


def test_faults_of_the_name_come_with_the_others(shelf):
    (shelf / "run.yaml").write_text("data: {name: 'shelf:nose'}\noptim: {lr: fast}\n")
    with pytest.raises(ConfigError) as error:
        load("run.yaml")
    assert len(error.value.faults) == 2 and "Did you mean 'noise'" in error.value.faults[0]


def test_a_killed_run_ends_in_the_same_bits(shelf, here, zygote, same_runs, refused, evaluate):
    words = (
        "--config",
        "small.yaml",
        "data.name=shelf:noise",
        "data.per_class=null",
        "data.transform=pad_crop",
        f"run.dir={here}",
    )
    assert zygote.train(here, *words, "run.name=whole").code == 0
    killed = zygote.train(here, *words, "run.name=killed", moment="gcp.engine.train:update:5:after")
    assert killed.code == -9
    assert zygote.train(here, f"resume={here}/killed").code == 0
    same_runs(here / "whole", here / "killed")
    assert "add data.name=shelf:noise" in refused(evaluate("--checkpoint", f"{here}/whole"))
    assert "shelf" not in sys.modules
    assert evaluate("--checkpoint", f"{here}/whole", "data.name=shelf:noise").code == 0
    (shelf / "shelf.py").write_text(MODULE.replace("pairs(40, 0)", "pairs(40, 2)"))
    (here / "killed" / "result.json").unlink()
    changed = refused(zygote.train(here, f"resume={here}/killed"))
    assert "was trained on other images" in changed


def test_it_can_be_checked(shelf, capsys):
    assert run(gcp.cli.check_dataset.main, ["shelf:noise", "--verify"]) == 0
    assert "shelf:noise: Noise of four classes." in capsys.readouterr().out
