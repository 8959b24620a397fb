"""The everyday commands: what they give to train.py, and what they say to a mistake.

In place of Python there is a script that prints the words that it is given.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gcp
from gcp.cli.arguments import parse
from gcp.cli.train import FLAGS
from gcp.config import load
from gcp.models.parts import freeze

PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs"
RECIPES = [path for path in sorted(CONFIGS.glob("*/*.yaml")) if "\n# command    python train.py " in path.read_text()]
AWKWARD = "it's: 100 % [of] my images #1 \\ ünïcode"


@pytest.fixture
def script(tmp_path):
    """Call a script from a folder of its own, with a stand-in for Python: (exit code, words it was given, stderr)."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$(pwd)" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "here").mkdir()

    def script(name, *words, venv=tmp_path / "venv", **variables):
        command = ["bash", str(PROJECT / "scripts" / name), *map(str, words)]
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": str(venv), "OMP_NUM_THREADS": "1", **variables}
        ended = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
        return ended.returncode, ended.stdout.split("\0")[:-1], ended.stderr

    return script


def resolved(words):
    """The configuration that train.py makes of the words."""
    assert words[:2] == [str(PROJECT), "train.py"]
    arguments = parse(words[2:], FLAGS)
    config = arguments.value("--config")
    assert arguments.take("resume") in (None, "auto")
    return load(config if Path(config).is_absolute() else PROJECT / config, arguments.overrides)


@pytest.mark.parametrize(
    "name",
    [
        "cub/modern",
        "cub/modern.yaml",
        "configs/cub/modern.yaml",
        "--config=cub/modern",
        CONFIGS / "cub/modern.yaml",
    ],
)
def test_names_of_a_recipe(script, name):
    code, words, _ = script("train.sh", name, "data.root=x y", "head.name=seb")
    assert code == 0
    flag, _, file = words[2].partition("=")
    assert flag == "--config" and Path(PROJECT, file) == CONFIGS / "cub" / "modern.yaml"
    assert words[1] == "train.py" and words[3:] == ["data.root=x y", "head.name=seb"]


def test_a_file_is_looked_for_where_one_stands(script, tmp_path):
    file = tmp_path / "here" / "a = b.yaml"
    file.write_text("train: {epochs: 7}\n")
    code, words, _ = script("train.sh", file.name)
    assert code == 0 and words[2] == f"--config={file}" and resolved(words).train.epochs == 7


def test_resume(script):
    assert script("train.sh", "resume=runs/x", "train.epochs=9")[1][1:] == [
        "train.py",
        "resume=runs/x",
        "train.epochs=9",
    ]


LAUNCHER = ["-m", "gcp.cli.torchrun", "--standalone"]


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({}, 1),
        ({"PROCESSES": "3"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "5"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "4,6"}, 2),
        ({"GPUS": "4"}, 4),
        ({"GPUS": "1"}, 1),
        ({"GPUS": "0,2,3"}, 3),
        ({"GPUS": "2", "CUDA_VISIBLE_DEVICES": "4,6,7"}, 2),
    ],
)
def test_one_process_per_gpu(script, variables, processes):
    code, words, _ = script("train.sh", "cub/modern", "data.root=a b", **variables)
    assert code == 0 and words[-1] == "data.root=a b"
    launcher = [*LAUNCHER, f"--nproc-per-node={processes}", "--max-restarts=0"] if processes > 1 else []
    assert words[1:-2] == [*launcher, "train.py"]


def test_all_gpus_of_the_machine(script, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf 'GPU 0: A\\nGPU 1: A\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "--nproc-per-node=2" in script("train.sh", "cub/modern")[1]


def test_a_run_that_is_restarted_is_continued(script):
    words = script("train.sh", "cub/modern", "run.name=x", PROCESSES="2", RESTARTS="3")[1]
    assert "--max-restarts=3" in words and words[-2:] == ["run.name=x", "resume=auto"]
    assert "resume=auto" not in script("train.sh", "resume=x", PROCESSES="2", RESTARTS="3")[1]


FAULT = """
import os, sys, time
from gcp.command import as_typed, tell_launcher
if os.environ["RANK"] == "0":
    tell_launcher("rank 0 of 2: a reason")
    sys.exit(print(as_typed("error: continue it by gcp train resume=x"), file=sys.stderr) or CODE)
time.sleep(60)
"""


@pytest.mark.parametrize("code", [2, 1])
def test_the_launcher_leaves_a_fault_of_the_user_as_it_is(tmp_path, code):
    """One message, which keeps the number of processes, and exit code 2; of another end it tells what it knows."""
    (tmp_path / "train.py").write_text(FAULT.replace("CODE", str(code)))
    command = [sys.executable, "-m", "gcp.cli.torchrun", "--standalone", "--nproc-per-node=2", "train.py"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    message = "error: continue it by torchrun --nproc-per-node=2 train.py resume=x\n"
    assert ended.returncode == code and ended.stderr.startswith(message)
    assert (ended.stderr == message) if code == 2 else "train.py FAILED" in ended.stderr


def test_the_report_of_torchrun_itself_ends_with_the_message(tmp_path):
    """Its traceback and its exit code 1 are beyond what a process can change."""
    (tmp_path / "train.py").write_text(FAULT.replace("CODE", "2"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and ended.stderr.startswith("error: continue it by torchrun")
    assert re.search(r"Root Cause.*traceback : rank 0 of 2: a reason\n=+\s*$", ended.stderr, re.DOTALL)


@pytest.mark.parametrize("variable", ["GPUS", "PROCESSES"])
def test_a_number_of_processes_that_is_none(script, variable):
    code, words, error = script("train.sh", "cub/modern", **{variable: "all"})
    assert code == 2 and not words and re.search(rf"^error: {variable}=all.*a number", error)


STUBS = {
    "scontrol": 'echo "scontrol $*" >> "$CALLS"; [ "$1" = show ] && printf "node7\\nnode8\\n" || true',
    "srun": 'echo "srun $*" >> "$CALLS"; trap "exit 1" TERM; [ -z "$SLOW" ] || { touch "$CALLS.up"; sleep 30 & wait; }',
}


@pytest.fixture
def batch(tmp_path):
    """Call slurm.sbatch as Slurm would, with a stand-in for its commands: the process, and the file of their calls."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)

    def batch(*words, slow=""):
        calls = tmp_path / "calls"
        slurm = {"SLURM_SUBMIT_DIR": PROJECT, "SLURM_JOB_ID": "42", "SLURM_JOB_NUM_NODES": "2"}
        slurm |= {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_GPUS_ON_NODE": "4"}
        own = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": tmp_path / "venv", "CALLS": calls, "SLOW": slow}
        environment = {key: str(value) for key, value in (slurm | own).items()}
        command = ["bash", str(PROJECT / "scripts" / "slurm.sbatch"), *words]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True), calls

    return batch


def test_a_job_on_several_machines(batch):
    process, calls = batch("configs/imagenet/resnet50.yaml", "data.root=x")
    assert process.wait(30) == 0
    srun = next(line for line in calls.read_text().splitlines() if line.startswith("srun"))
    for word in ("--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=node7:20042", "--rdzv-id=42", "--max-restarts=3"):
        assert word in srun
    assert srun.endswith("train.py --config configs/imagenet/resnet50.yaml data.root=x run.name=slurm-42 resume=auto")
    assert "requeue" not in calls.read_text()


def test_a_job_that_is_preempted_goes_back_into_the_queue(batch):
    process, calls = batch("configs/imagenet/resnet50.yaml", slow="yes")
    until = time.monotonic() + 30
    while not Path(f"{calls}.up").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert calls.read_text().splitlines()[-1] == "scontrol requeue 42"


def test_a_job_without_a_configuration(batch):
    process, calls = batch()
    assert process.wait(30) == 2 and "usage: sbatch" in process.stderr.read() and not calls.exists()


def test_without_arguments_the_recipes_are_listed(script):
    code, words, error = script("train.sh")
    assert code == 2 and not words
    listed = [line.split()[0] for line in error.partition("Recipes:\n")[2].splitlines()]
    assert listed == [str(path.relative_to(CONFIGS).with_suffix("")) for path in RECIPES]


@pytest.mark.parametrize("name", ["train.sh", "train_alexnet.sh", "train_resnet.sh", "finetune_fgvc.sh"])
def test_help(script, name):
    code, _, error = script(name, "--help")
    assert (code, error) == (0, "")
    assert script(name)[0] == 2 and f"bash scripts/{name}" in script(name)[2]


@pytest.mark.parametrize("word", ["data.root=x", "--config", ""])
def test_a_configuration_comes_first(script, word):
    code, words, error = script("train.sh", word)
    assert (code, words) == (2, []) and error.startswith("error: the first argument is a configuration, not '")


def test_a_misspelt_recipe_gets_the_nearest(script):
    code, _, error = script("train.sh", "cub/resnet50_sebb", "data.root=x", venv=sys.prefix)
    assert code == 2 and "'configs/cub/resnet50_seb.yaml'?" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "words", "recipe"),
    [
        ("train_alexnet.sh", [], "imagenet/alexnet_bn"),
        ("train_resnet.sh", [], "imagenet/resnet50"),
        ("finetune_fgvc.sh", ["cub"], "cub/resnet50_seb"),
        ("finetune_fgvc.sh", ["cars"], "cars/resnet50_seb"),
        ("finetune_fgvc.sh", ["aircraft"], "aircraft/resnet50_seb"),
        ("finetune_fgvc.sh", ["dogs"], "dogs/resnet50_svd_pade"),
        ("finetune_fgvc.sh", ["cub/vgg16_bcnn"], "cub/vgg16_bcnn"),
    ],
)
def test_published_defaults(script, tmp_path, name, words, recipe):
    root = tmp_path / "here" / AWKWARD
    root.mkdir()
    code, given, error = script(name, *words, AWKWARD, "run.seed=3")
    assert code == 0, error
    config = resolved(given)
    name = f"run.name={recipe.replace('/', '-')}"  # by which the same command continues the run
    assert config == load(CONFIGS / f"{recipe}.yaml", [f"data.root={tmp_path}", "run.seed=3", name]).model_copy(
        update={"data": config.data}
    )
    assert given[-1] == "resume=auto"
    assert Path(config.data.root) == root


def test_variables_of_the_published_scripts(script, tmp_path):
    old = ["arch=resnet101", "image_representation=SVD_Taylor", "batchsize=64", "epoch=80", "lr=0.05"]
    old += ["weight_decay=5e-4", "classifier_factor=10"]
    config = resolved(script("train_resnet.sh", tmp_path, *old, "head.degree=50")[1])
    assert (config.model.backbone, config.head.name, config.head.options) == ("resnet101", "svd_taylor", {"degree": 50})
    assert (config.train.batch_size, config.train.epochs, config.optim.lr) == (64, 80, 0.05)
    assert (config.optim.weight_decay, config.optim.classifier_lr_factor) == (5e-4, 10)
    assert config.optim.lr_batch == 64, "there the learning rate is not scaled by the batch"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "imagenet-resnet50"),
        (["description=first try", "lr=0.05", "batchsize=64"], "imagenet-resnet50-first_try-lr0.05-bs64"),
        (["image_representation=SVD_PI", "arch=resnet101"], "imagenet-resnet50-SVD_PI-resnet101"),
        (["description=first", "run.name=mine"], "mine"),
    ],
)
def test_the_same_command_continues_its_run(script, tmp_path, words, name):
    """There the folder is named by these variables, and a second call goes on from its last checkpoint."""
    given = script("train_resnet.sh", tmp_path, *words)[1]
    assert given[-1] == "resume=auto" and resolved(given).run.name == name
    assert script("train_resnet.sh", tmp_path, "resume=runs/x")[1][-1] == "resume=runs/x"


@pytest.mark.parametrize(
    ("words", "name", "milestones", "gamma", "lr"),
    [
        (["lr_method=step", "lr_params=30\\ 45\\ 60"], "multistep", (30, 45), 0.1, 0.0794),
        (["lr_params=30 45", "epoch=40"], "multistep", (30,), 0.1, 0.0794),
        (["lr_params=100"], "constant", (), 0.1, 0.0794),
        (["lr_method=log", "lr_params=-1 -5", "epoch=5"], "step", (), 0.1, 0.1),
    ],
)
def test_learning_rates_of_the_published_scripts(script, tmp_path, words, name, milestones, gamma, lr):
    config = resolved(script("train_resnet.sh", tmp_path, *words)[1])
    schedule = config.schedule
    assert (schedule.name, tuple(each.amount for each in schedule.milestones)) == (name, milestones)
    assert (schedule.gamma, config.optim.lr) == (gamma, lr) and schedule.every.amount in (30, 1)


@pytest.mark.parametrize(
    ("words", "frozen"),
    [
        (["freeze_layer=0"], ()),
        (["freeze_layer=5"], ("features.conv1", "features.bn1", "features.layer1")),
        (["freeze_layer=8"], ("features",)),
        (["arch=vgg16", "freeze_layer=30"], ("features",)),
        (["arch=vgg16", "freeze_layer=2"], ("features.features.0", "features.features.1")),
        (["arch=alexnet", "freeze_layer=2"], ("features.0", "features.1")),
    ],
)
def test_layers_that_the_published_scripts_freeze(script, tmp_path, words, frozen):
    config = resolved(script("train_resnet.sh", tmp_path, *words)[1])
    assert config.model.freeze == frozen
    model = gcp.create_model(config.model.backbone, "average", num_classes=2)
    freeze(model, frozen)  # every name is one of the model


def test_what_the_data_says_is_compared(script, tmp_path):
    assert script("finetune_fgvc.sh", "cub", tmp_path, "num_classes=200", "benchmark=CUB_200_2011")[0] == 0
    code, _, error = script("finetune_fgvc.sh", "cub", tmp_path, "num_classes=196")
    assert code == 2 and re.match("error: num_classes=196.*cub has 200", error)
    code, _, error = script("finetune_fgvc.sh", "cub", tmp_path, "benchmark=fgvc-aircraft")
    assert code == 2 and re.match(r"error: .*finetune_fgvc\.sh aircraft ROOT", error)
    for word in ("freeze_layer=all", "lr_method=cos", "lr_params=x", "benchmark=mine"):
        code, _, error = script("train_resnet.sh", tmp_path, word, *(["lr_params=1"] if "method" in word else []))
        assert code == 2 and error.startswith(f"error: {word.partition('=')[0]}="), error


@pytest.mark.parametrize(
    ("old", "head"), {"MPNCOV": "newton_schulz", "GAvP": "average", "SVD_PI": "svd_pi", "SEB": "seb"}.items()
)
def test_names_of_methods(script, tmp_path, old, head):
    settings = [f"image_representation={old}", "arch=mpncovresnet101"]
    config = resolved(script("finetune_fgvc.sh", "cub", tmp_path, *settings)[1])
    assert (config.head.name, config.model.backbone, config.model.last_stride) == (head, "resnet101", 1)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("train_alexnet.sh", ["nowhere"], "error: ROOT .*no folder 'nowhere'"),
        ("finetune_fgvc.sh", ["cub", "nowhere"], "error: ROOT .*no folder"),
        ("finetune_fgvc.sh", ["cub"], r"error: ROOT .*bash scripts/finetune_fgvc\.sh cub ROOT"),
        ("finetune_fgvc.sh", ["birds", "."], "error: .*'birds'.*cub, cars, aircraft, dogs"),
        (
            "finetune_fgvc.sh",
            ["cub/resnet", "."],
            r"error: .*'cub/resnet'.*bash scripts/finetune_fgvc\.sh --help",
        ),
    ],
)
def test_mistakes(script, name, words, message):
    code, given, error = script(name, *words)
    assert (code, given) == (2, []) and re.match(message, error)
