"""A run of several stages: ordinary runs in RUN/stage-1, RUN/stage-2, ..., each from the weights of the one before.

RUN itself holds the configuration with the stages and, at the end, the result of the last stage with what each reached.
"""

from gcp.config import Config, dump, from_dict, load, stage_configs
from gcp.engine import checkpoint
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import Samples
from gcp.engine.folder import RunFolder, write_json, write_text
from gcp.engine.state import load_weights
from gcp.errors import ConfigError, GCPError
from gcp.runs.classifier import ClassifierRun, with_widths
from gcp.runs.result import read_result
from gcp.runs.run import resume_command


class StagedRun:
    """All stages of a run; those that have no checkpoint yet are built once beforehand, so that a fault in the last
    of them does not wait for the others to end.

    Raises:
        ConfigError: the length of a stage changed from whose weights the next one has begun, or its folder is gone.
        GCPError: a stage cannot be built; with several faults, all of them.
    """

    def __init__(self, config: Config, folder: RunFolder, group: Group = ALONE):
        self.config, self.folder, self.group, self.stop_code = config, folder, group, 0
        self.samples: Samples | None = None  # of the test split, by the last stage
        self.configs = [_placed(stage, folder, number) for number, stage in enumerate(stage_configs(config), 1)]
        begun = [n for n in range(1, len(self.configs) + 1) if checkpoint.candidates(folder.stage(n).path)]
        self.number = max(begun, default=1)
        self._check_earlier()
        damaged = [number for number in range(1, self.number) if read_result(folder.stage(number)) is None]
        self.number = min(damaged, default=self.number)
        self.stage_run: ClassifierRun | None = self._build()

    def resume(self) -> int:
        """`run`, which begins with the first stage that is not finished."""
        return self.run()

    def run(self) -> int:
        """Train every stage that is left, then write the result of all. Returns the exit code."""
        if self.group.main:
            write_text(self.folder.config, dump(self.config))
        while self.number <= len(self.configs):
            if code := self._stage(self.number):
                return code
            self.number += 1
        if self.group.main:
            write_json(self.folder.result, self._result())
        print(f"result     {self.folder.result}")
        return 0

    def _stage(self, number: int) -> int:
        run, self.stage_run = self.stage_run or self._run_of(number), None  # two models at a time are too many
        run.folder.path.mkdir(exist_ok=True)
        print(f"stage      {number} of {len(self.configs)}")
        if code := run.resume():
            return code
        self.samples, self.stop_code = getattr(run, "samples", None), run.stop_code
        if run.stop_code and number < len(self.configs):
            print(f"stopped before stage {number + 1}. Continue with\n  {resume_command(self.folder)}")
            return run.stop_code
        return 0

    def _run_of(self, number: int) -> ClassifierRun:
        weights = self.folder.stage(number - 1).last if number > 1 else True
        return ClassifierRun(self.configs[number - 1], self.folder.stage(number), weights, number, self.group)

    def _build(self) -> ClassifierRun:
        """The run of the present stage. Every later one is built too, only to find its faults now."""
        faults: dict[str, list[int]] = {}
        present = None
        for number in range(self.number, len(self.configs) + 1):
            try:
                if number == self.number:
                    present = self._run_of(number)
                    continue
                config = self.configs[number - 1]
                if present:
                    config = with_widths(config, present.config.plain())
                later = ClassifierRun(config, self.folder.stage(number), weights=False, group=self.group)
                if present:
                    load_weights(later.state.model, present.state.model.state_dict(), f"stage {self.number}")
            except GCPError as error:
                faults.setdefault(str(error), []).append(number)
                fault = error
        if len(faults) == 1 and len(self.configs) - self.number + 1 == len(faults[str(fault)]):
            raise fault
        if faults or present is None:
            lines = [f"stage {', '.join(map(str, numbers))}: {text}" for text, numbers in faults.items()]
            raise GCPError("\n  ".join(["stages that cannot be built:", *lines]))
        return present

    def _check_earlier(self) -> None:
        for number in range(1, self.number):
            if not self.folder.stage(number).result.is_file():
                path = self.folder.stage(number).path
                raise GCPError(f"{path} has no result.json, but stage {number + 1} has begun from it. Put it back.")
            before = load(self.folder.stage(number).config).train.epochs
            now = self.configs[number - 1].train.epochs
            if now != before:
                fault = f"stages.{number}.train.epochs: got {now}; allowed: {before}, stage {number + 1} has begun"
                raise ConfigError([fault], f"the settings of {self.folder.path}")

    def _result(self) -> dict:
        folders = [self.folder.stage(number) for number in range(1, len(self.configs) + 1)]
        results = [read_result(folder) or {} for folder in folders]
        stages = [{"folder": folder.path.name, **result} for folder, result in zip(folders, results, strict=True)]
        return results[-1] | {"seconds": sum(result["seconds"] for result in results), "stages": stages}


def _placed(config: Config, folder: RunFolder, number: int) -> Config:
    """The configuration of a stage with its place as a run of its own."""
    place, values = folder.stage(number).path, config.plain()
    return from_dict(values | {"run": values["run"] | {"dir": str(folder.path), "name": place.name}})
