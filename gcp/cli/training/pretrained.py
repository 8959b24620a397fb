"""The file of weights that a run starts from, looked for before data and model are built."""

from pathlib import Path

from gcp.config import Config, yaml_file
from gcp.errors import CheckpointError
from gcp.models.checkpoints import is_there
from gcp.models.names import OURS


def check_pretrained(config: Config) -> None:
    """Raise CheckpointError, with what to type, where `model.pretrained` names a file that is not there."""
    file = config.model.pretrained
    if isinstance(file, bool) or is_there(file):
        return
    recipe, backbone = recipe_of(Path(file).parent.name), config.model.backbone
    train = f"Train it: python train.py --config {recipe} data.root=ROOT. Or give" if recipe else "Give"
    plain = "" if backbone in OURS else f", or model.pretrained=true for the plain ImageNet weights of {backbone}"
    raise CheckpointError(
        f"no checkpoint at {file}, which model.pretrained names. {train} model.pretrained=FILE for weights that you "
        f"have{plain}."
    )


def recipe_of(run: str, configs: str | Path = "configs") -> Path | None:
    """The recipe under `configs` whose `run.name` is `run`, None where there is none."""
    for path in sorted(Path(configs).rglob("*.yaml")):
        section = (yaml_file.read(path)[0] or {}).get("run")
        if run and isinstance(section, dict) and section.get("name") == run:
            return path
    return None
