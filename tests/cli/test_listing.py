"""`--list`: the registries as text."""

import pytest

from gcp.cli.listing import KINDS, listing
from gcp.config import recipes
from gcp.data import list_datasets
from gcp.data.transforms import TRANSFORMS
from gcp.errors import GCPError, UnknownNameError
from gcp.gradients import RULES
from gcp.heads import list_heads
from gcp.loggers import LOGGERS
from gcp.models import list_backbones

NAMES = {
    "heads": list_heads,
    "rules": RULES.list,
    "backbones": list_backbones,
    "datasets": list_datasets,
    "transforms": TRANSFORMS.list,
    "recipes": lambda _: list(recipes.recipes()),
    "studies": lambda _: list(recipes.studies()),
    "loggers": LOGGERS.list,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_with_its_summary(kind):
    lines = listing(kind).splitlines()
    assert [line.split()[0] for line in lines] == list(map(str, NAMES[kind]("*")))
    entries = KINDS[kind]("*")
    assert all(entry.summary and entry.summary in line for entry, line in zip(entries, lines, strict=True))
    assert all(f"[{entry.paper}]" in line for entry, line in zip(entries, lines, strict=True) if entry.paper)


def test_pattern():
    names = [line.split()[0] for line in listing("heads", "svd_t*").splitlines()]
    assert names == ["svd_taylor", "svd_topn", "svd_trunc"]


def test_faults():
    with pytest.raises(UnknownNameError, match=r"list 'head'.*'heads'"):
        listing("head")
    with pytest.raises(GCPError, match=r"rules.*'padé'.*'pade'"):
        listing("rules", "padé")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_both_commands_list(command, request):
    call = request.getfixturevalue(command)
    assert call("--list", "datasets").out == listing("datasets") + "\n"
    assert call("--list", "rules", "p*").out == listing("rules", "p*") + "\n"
    assert call("--list", "datasets", "nothing*").code == 2
    assert "--list needs one of heads, rules" in call("--list").err
