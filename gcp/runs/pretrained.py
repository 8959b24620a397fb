"""The file that `model.pretrained` names: whether it is there, and else what to type."""

from pathlib import Path

from gcp.config import Config, recipes, yaml_file
from gcp.errors import CheckpointError, nearest
from gcp.models.backbones import OURS
from gcp.models.checkpoints import is_there


def check_pretrained(config: Config) -> None:
    """Raise CheckpointError, with what to type, where `model.pretrained` names a file that is not there."""
    file = config.model.pretrained
    if isinstance(file, bool) or is_there(file):
        return
    recipe, backbone = recipe_of(Path(file).parent.name), config.model.backbone
    train = f"Train it: gcp train --config {recipe} data.root=ROOT. Or give" if recipe else "Give"
    plain = "" if backbone in OURS else f", or model.pretrained=true for the plain ImageNet weights of {backbone}"
    run = run_near(Path(file), Path(config.run.dir))
    hint = f" Did you mean model.pretrained={run}?" if run else ""
    raise CheckpointError(
        f"no checkpoint at {file}, which model.pretrained names. {train} model.pretrained=FILE for weights that you "
        f"have{plain}.{hint}"
    )


def run_near(file: Path, parent: Path) -> Path | None:
    """The run under `parent` or beside the given one that is named as the given run or nearly so; None: there is none.

    file: a run, its name, or a checkpoint in it.
    """
    given = file.parent if file.name in ("best.pt", "last.pt") else file
    runs = {path.parent.name: path.parent for folder in (given.parent, parent) for path in folder.glob("*/config.yaml")}
    near = nearest(given.name, runs)
    return runs[near] if near else None


def recipe_of(run: str) -> str | None:
    """The recipe of ours whose `run.name` is `run`, None where there is none."""
    for name in recipes.recipes() if run else ():
        section = (yaml_file.read(recipes.find(name))[0] or {}).get("run")
        if isinstance(section, dict) and section.get("name") == run:
            return name
    return None
