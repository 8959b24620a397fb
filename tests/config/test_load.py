"""Files, inheritance, overrides and the way back to YAML."""

import re

import pytest
import yaml
from config_fixtures import saying, says

from gcp.config import Duration, dump, from_dict, load, parse_override
from gcp.config.load import merge
from gcp.config.schema import Config, composed, sections
from gcp.errors import ConfigError

FULL = """
run: {name: "1e3", seed: 3, amp: bf16, threads: 2}
data: {image_size: 64, per_class: 5, workers: 0}
model: {backbone: resnet50, pretrained: weights.pt, last_stride: 1, freeze: [features.layer1, head],
        hidden: [], dropout: 0.5}
head: {name: polar_express, dim: 64, lower: 1e-2, steps: 5, precision: float32}
optim: {lr: 1, weight_decay: 5e-4, clip: 5, head_weight_decay: 0}
schedule: {name: multistep, warmup: 500 steps, milestones: [3, 50 %, "9.5 epochs"], gamma: 0.2}
train: {ema: 0.999, mixup: 0.2}
checkpoint: {every: 10 minutes}
"""


def test_empty_file_is_all_defaults(write):
    assert load(write("")) == composed(Config)() == load(write("optim:\nhead:\n"))


def test_values_arrive(write):
    config = load(write(FULL))
    assert config.optim.lr == 1.0 and isinstance(config.optim.lr, float)
    assert config.optim.weight_decay == 5e-4
    assert config.model.freeze == ("features.layer1", "head") and config.model.hidden == ()
    assert config.schedule.milestones == (Duration(3), Duration(50, "percent"), Duration(9.5))
    assert config.schedule.warmup == Duration(500, "steps")
    assert config.checkpoint.every == Duration(10, "minutes")
    assert config.head.options == {"lower": 0.01, "steps": 5}
    assert config.run.name == "1e3"


@pytest.mark.parametrize("number", ["1e-1", "1E-1", "0.1", ".1", "1.0e-1", "10e-2"])
def test_every_spelling_of_a_number(write, number):
    assert load(write(f"optim: {{lr: {number}}}")).optim.lr == 0.1
    assert load(write(""), [f"optim.lr={number}"]).optim.lr == 0.1


def test_config_is_frozen(write):
    config = load(write(FULL))
    with pytest.raises(ValueError, match=r"frozen"):
        config.optim.lr = 2.0
    with pytest.raises(ValueError, match=r"frozen"):
        config.head.steps = 2


@pytest.mark.parametrize("text", ["", FULL])
def test_round_trip(write, text):
    config = load(write(text))
    again = write(dump(config), "again.yaml")
    assert load(again) == config
    assert dump(load(again)) == dump(config)
    assert from_dict(config.plain()) == config
    # Another reader of YAML, of version 1.1, must find the same values.
    assert yaml.safe_load(dump(config)) == config.plain()


def test_dump_holds_every_key_that_is_read(write):
    """What is not read stays out: a run has to be readable when defaults of such keys have changed."""
    config = load(write(FULL))
    values = yaml.safe_load(dump(config))
    for name, section in sections(composed(Config)).items():
        here = getattr(config, name)
        given = set(getattr(here, "options", {}))
        assert set(values[name]) - given == set(section.model_fields) - set(here.unread())
    assert "milestones" in values["schedule"] and "every" not in values["schedule"]
    assert "extends" not in values


def test_overrides(write):
    config = load(
        write(FULL),
        [
            "optim.lr=1e-3",
            "model.hidden=[1024, 512]",
            "optim.clip=null",
            "run.deterministic=true",
            "run.name='7'",
            "data.root=null",
            "schedule.milestones=[2 epochs, 60 %]",
            "head.steps=6",
            "train.epochs=5",
            "train.epochs=7",
        ],
    )
    assert (config.optim.lr, config.optim.clip, config.run.deterministic) == (0.001, None, True)
    assert config.model.hidden == (1024, 512)
    assert config.schedule.milestones == (Duration(2), Duration(60, "percent"))
    assert config.head.options == {"lower": 0.01, "steps": 6}
    assert config.run.name == "7"
    assert config.train.epochs == 7, "the last override wins"


def test_null_removes_a_head_option(write):
    config = load(write(FULL), ["head.lower=null", "head.steps=null", "head.name=svd_pade"])
    assert config.head.options == {}
    assert config == from_dict(config.plain()), "the null leaves no trace"


def test_parse_override():
    assert parse_override("optim.lr=1e-3") == ("optim.lr", 0.001)
    assert parse_override("data.root=a=b") == ("data.root", "a=b")
    assert parse_override("resume=runs/x") == ("resume", "runs/x")
    assert parse_override("run.name='5'") == ("run.name", "5")
    with pytest.raises(ValueError, match=saying("lr = key.path=value")):
        parse_override("lr")


def test_merge_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": None}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": None}
    assert base == {"a": {"b": 1, "c": [1, 2]}} and over == {"a": {"c": [3]}, "d": None}


def test_inheritance(write):
    write("head: {name: svd_taylor, dim: 32, degree: 50}\ntrain: {epochs: 3, batch_size: 8}\n", "base.yaml")
    child = write("extends: ../base.yaml\ntrain: {epochs: 4}\nhead: {degree: null}\n", "sub/child.yaml")
    config = load(child, ["train.batch_size=9"])
    assert (config.train.epochs, config.train.batch_size) == (4, 9)
    assert (config.head.name, config.head.dim, config.head.options) == ("svd_taylor", 32, {})


def test_a_file_that_is_extended_may_extend_another(write):
    write("optim: {lr: 0.5, clip: 1.0}\ntrain: {epochs: 3}\n", "c.yaml")
    write("extends: c.yaml\noptim: {clip: 2.0}\n", "b.yaml")
    config = load(write("extends: b.yaml\ntrain: {epochs: 7}\n", "a.yaml"))
    assert (config.optim.lr, config.optim.clip, config.train.epochs) == (0.5, 2.0, 7)
    write("optim: {lr: fast}", "c.yaml")
    write("extends: c.yaml\noptim: {clip: none}", "b.yaml")
    with pytest.raises(ConfigError) as error:
        load(write("extends: b.yaml\ntrain: {epochs: 0}\n", "a.yaml"))
    assert len(error.value.faults) == 3, "the faults of all files are found at once"


def test_a_recipe_that_extends_another_is_extended_by_its_name(write):
    config = load(write("extends: digits/resnet\ntrain: {epochs: 2}\n", "mine.yaml"))
    assert (config.model.backbone, config.data.name, config.train.epochs) == ("resnet20_cifar", "digits", 2)


def test_cycles(write):
    with pytest.raises(ConfigError, match=saying("extends a.yaml a.yaml cycle")):
        load(write("extends: a.yaml", "a.yaml"))
    write("extends: a.yaml", "b.yaml")
    with pytest.raises(ConfigError, match=saying("extends a.yaml b.yaml a.yaml cycle")):
        load(write("extends: b.yaml", "a.yaml"))


@pytest.mark.parametrize(
    ("extends", "words"),
    [
        ("bsae.yaml", "extends bsae.yaml base.yaml"),
        ("5", "extends 5 one YAML"),
        ("[base.yaml]", "extends ['base.yaml'] one YAML"),
    ],
)
def test_faulty_extends(write, extends, words):
    write("", "base.yaml")
    with pytest.raises(ConfigError, match=saying(words)):
        load(write(f"extends: {extends}", "a.yaml"))


def test_missing_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("", "configs/digits/resnet.yaml")
    write("", "here/vgg.yaml")
    for path, meant in [
        ("configs/digits/resnt.yaml", "configs/digits/resnet.yaml"),
        ("resnet.yml", "digits/resnet"),
        ("here/vg.yaml", "here/vgg.yaml"),
    ]:
        with pytest.raises(ConfigError, match=saying(f"{path} {meant}")):
            load(path)
    with pytest.raises(ConfigError, match=saying("nowhere/x.yaml folder nowhere")):
        load("nowhere/x.yaml")
    with pytest.raises(ConfigError, match=saying("here folder YAML here/vgg.yaml")):
        load("here")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: 2", "YAML line 2 column 2 ',' ']'"),
        ("optim:\n\tlr: 1", r"YAML line 2 column 1 '\t'"),
        ("- 1\n- 2", "list mapping sections"),
        ("0.1", "value mapping sections"),
        ("a: 1\n---\nb: 2", "YAML line 2 column 1 document"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "YAML line 1 column 4 constructor",
        ),
        ("a: &a [*a]", "YAML line 1 column 4 alias itself"),
        ("a: " + "[" * 5000, "run.yaml nested"),
        ("a: \x00", "YAML characters"),
    ],
)
def test_unreadable_file(faults, text, words):
    (fault,) = faults(text)
    assert says(fault, words), fault


def test_not_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=saying("a.yaml UTF-8")):
        load(path)


def test_aliases_of_aliases_are_read_once(write):
    levels = "\n".join(f"x{n}: &x{n} [" + ", ".join([f"*x{n - 1}"] * 9) + "]" for n in range(1, 40))
    with pytest.raises(ConfigError, match=saying("40 faults")):
        load(write(f"x0: &x0 [1]\n{levels}"))


def test_merge_keys(write):
    text = "train: &t {batch_size: 5}\nevaluate: {<<: *t, every: 2}"
    assert load(write(text)).evaluate.batch_size == 5


@pytest.mark.parametrize(
    "value",
    [
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!timestamp x",
        "!!binary x",
        "!!timestamp 2001-99-99",
        "9" * 5000,
        "[" * 3000,
    ],
)
def test_scalars_that_cannot_be_constructed(value, write):
    """A fault with its place, in a file and as an override."""
    with pytest.raises(ConfigError, match=f"{saying('odd.yaml line 1 column 17')}|{saying('odd.yaml nested')}"):
        load(write(f"train: {{epochs: {value}}}", "odd.yaml"))
    with pytest.raises(ConfigError, match=re.escape(f"train.epochs={value[:9]}")):
        load(write("train: {epochs: 1}", "even.yaml"), [f"train.epochs={value}"])


@pytest.mark.parametrize(
    ("word", "meant"), [("lr_params", "optim.lr"), ("optim.lr_params", "optim.lr"), ("xyzzy", None)]
)
def test_an_unknown_key_is_only_likened_to_what_is_like_it(word, meant, write):
    with pytest.raises(ConfigError) as caught:
        load(write("train: {epochs: 1}", "x.yaml"), [f"{word}=3"])
    (fault,) = caught.value.faults
    assert re.findall(r"\w+\.\w+", fault.partition(word)[2]) == ([meant] if meant else [])


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("plugins: 3", [], "plugins 3 list text"),
        ("plugins: [no_such_module_of_mine]", [], "plugins no_such_module_of_mine"),
        ("", ["plugins=[no_such_module_of_mine]"], "plugins no_such_module_of_mine"),
        ("run: {plugins: 3}", [], "run.plugins 3 list text"),
        ("plugins: []\nrun: {plugins: []}", [], "plugins run.plugins one"),
        ("plugin: []", [], "plugin model stages plugins plugins"),
    ],
)
def test_plugins_are_called_as_they_are_typed(faults, text, overrides, words):
    (fault,) = faults(text, *overrides)
    assert says(fault, words) and fault.startswith(words.split()[0] + ": "), fault


def test_one_number_for_all_channels():
    data = from_dict({"data": {"std": 0.25}}, ["data.mean=0.5"]).data
    assert (data.mean, data.std) == ((0.5,), (0.25,))
