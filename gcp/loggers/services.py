"""Services that hold the runs of many machines side by side: Weights & Biases, MLflow, Trackio.

Each gets the settings of the run, `NAME/KEY` for every number at its optimizer step, texts, images and the outcome, and
a run that is resumed goes on in the same place. Their packages are imported in `start`.
"""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from torch import Tensor

from gcp.loggers import LoggedRun, Logger, finite, numbers, pixels, plain
from gcp.options import option, passed_on, text_option

PROJECT = "gcp"  # where neither an option nor the environment names one
EXIT_CODES = {"finished": 0, "stopped": 130, "failed": 1}


def _prefixed(name: str, row: Mapping[str, float]) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in row.items()}


@dataclass
class Wandb(Logger):
    """A run of Weights & Biases. What was logged after the checkpoint of a resumed run is there twice, with the same
    values: a run there cannot be cut off. Charts are drawn over `step`, the optimizer step.
    """

    project: str | None = text_option("project; null: WANDB_PROJECT, else gcp")
    entity: str | None = text_option("user or team; null: WANDB_ENTITY, else your own")
    group: str | None = text_option("group of the run")
    name: str | None = text_option("name of the run; null: that of its folder")
    notes: str | None = text_option("what is to be remembered of the run")
    tags: Sequence[str] | None = passed_on("list of tags")
    mode: str | None = option(
        None, "online, offline (`wandb sync` later) or disabled", choices=("online", "offline", "disabled", None)
    )

    def start(self, run: LoggedRun) -> Mapping[str, Any]:
        import wandb

        kept = dict(run.kept) or {"id": uuid4().hex[:12]}
        hook = sys.excepthook
        self._package, self._run = (
            wandb,
            wandb.init(
                project=self.project or os.environ.get("WANDB_PROJECT") or PROJECT,
                entity=self.entity,
                group=self.group,
                name=self.name or run.name or None,
                notes=self.notes,
                tags=self.tags,
                mode=cast("Any", self.mode),  # checked against the choices of the option
                id=kept["id"],
                resume="allow",
                dir=str(run.folder),
                config=plain(run.settings),
                allow_val_change=True,
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True),
            ),
        )
        sys.excepthook = hook  # it is the process's; that a run has failed `close` says
        self._run.define_metric("*", step_metric="step")
        self.place = f"wandb sync {Path(self._run.dir).parent}" if self._run.offline else self._run.url or ""
        return kept

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        self._run.log({"step": step, **_prefixed(name, numbers(row))})

    def text(self, name: str, text: str, step: int) -> None:
        self._run.log({"step": step, f"{name}/text": text})

    def images(self, name: str, images: Tensor, titles: Sequence[str], step: int) -> None:
        shown = [self._package.Image(pixels(image), caption=title) for image, title in zip(images, titles, strict=True)]
        self._run.log({"step": step, name: shown})

    def result(self, scores: Mapping[str, float], step: int) -> None:
        self.row("test", scores, step)
        self._run.summary.update(_prefixed("test", numbers(scores)))

    def close(self, outcome: str) -> None:
        self._run.finish(exit_code=EXIT_CODES[outcome])


@dataclass
class MLflow(Logger):
    """A run of MLflow. The active run of the process, if there is one, is left alone."""

    tracking_uri: str | None = text_option("a server or a database; null: MLFLOW_TRACKING_URI, else mlflow.db here")
    experiment: str | None = text_option("experiment; null: MLFLOW_EXPERIMENT_NAME, else gcp")
    name: str | None = text_option("name of the run; null: that of its folder")
    tags: Mapping[str, str] | None = passed_on("mapping of tags")

    LONGEST = 6000  # characters of a parameter, as the tracking server allows
    MOST = 100  # parameters in one request

    def start(self, run: LoggedRun) -> Mapping[str, Any]:
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.entities import Param

        self._client: Any = MlflowClient(tracking_uri=self.tracking_uri)
        if run.kept:
            self._id = run.kept["run_id"]
            self._client.update_run(self._id, status="RUNNING")
        else:
            made = self._client.create_run(self._experiment(), tags=self.tags, run_name=self.name or run.name or None)
            self._id = made.info.run_id
            settings = [Param(_allowed(key), str(value)[: self.LONGEST]) for key, value in run.settings.items()]
            for first in range(0, len(settings), self.MOST):
                self._client.log_batch(self._id, params=settings[first : first + self.MOST])
        self.place = f"run {self._id} at {self.tracking_uri or get_tracking_uri()}"
        return {"run_id": self._id}

    def _experiment(self) -> str:
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        values = [Metric(_allowed(key), value, now, step) for key, value in _prefixed(name, finite(row)).items()]
        self._client.log_batch(self._id, metrics=values)

    def text(self, name: str, text: str, step: int) -> None:
        self._client.log_text(self._id, text, f"{_allowed(name)}/{step}.txt")

    def images(self, name: str, images: Tensor, titles: Sequence[str], step: int) -> None:
        for image, title in zip(images, titles, strict=True):
            self._client.log_image(self._id, pixels(image), f"{_allowed(name)}/{_allowed(title)}.png")

    def close(self, outcome: str) -> None:
        status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[outcome]
        self._client.set_terminated(self._id, status)


def _allowed(name: str) -> str:
    """A name with the letters that MLflow takes in names and paths."""
    return re.sub(r"[^\w. /-]", "_", name)


@dataclass
class Trackio(Logger):
    """A run of Trackio: `trackio show` draws the local ones."""

    project: str | None = text_option("project; null: TRACKIO_PROJECT, else gcp")
    name: str | None = text_option(
        "name of the run; null: that of its folder and six letters, so that there is one of it"
    )
    group: str | None = text_option("group of the run")
    space_id: str | None = text_option("USER/SPACE of the Hugging Face hub; null: TRACKIO_SPACE_ID, else this machine")

    def start(self, run: LoggedRun) -> Mapping[str, Any]:
        import trackio

        project = self.project or os.environ.get("TRACKIO_PROJECT") or PROJECT
        kept = dict(run.kept) or {"name": self.name or f"{run.name or 'run'}-{uuid4().hex[:6]}"}
        with redirect_stdout(StringIO()):  # a greeting, with how to begin another run
            self._run = trackio.init(
                project=project,
                name=kept["name"],
                group=self.group,
                space_id=self.space_id,
                config=plain(run.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._package = trackio
        self.place = f"run {kept['name']}: trackio show --project {project}"
        return kept

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        self._run.log(_prefixed(name, finite(row)), step=step)

    def text(self, name: str, text: str, step: int) -> None:
        self._run.log({f"{name}/text": text}, step=step)

    def images(self, name: str, images: Tensor, titles: Sequence[str], step: int) -> None:
        shown = {
            f"{name}/{number}": self._package.Image(pixels(image), caption=title)
            for number, (image, title) in enumerate(zip(images, titles, strict=True))
        }
        self._run.log(shown, step=step)

    def close(self, outcome: str) -> None:
        with redirect_stdout(StringIO()):
            self._package.finish()
