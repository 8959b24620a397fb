"""The example of a data set of one's own learns, in Python and as the data set of a run."""

import importlib.util
import re
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_dataset.py"


def test_in_python():
    spec = importlib.util.spec_from_file_location("own_dataset", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(epochs=1) > 0.2  # it runs; eight epochs reach 100 %


def test_as_the_data_of_a_run(train, evaluate, here):
    (here / "drawn.py").write_text(EXAMPLE.read_text())
    done = train("--config", "small.yaml", "data.name=drawn:shapes", "data.transform=pad_crop", "run.name=a")
    assert done.code == 0 and re.search("drawn:shapes: 12 train.* 24 val.* 60 test.* 3 classes", done.out)
    assert evaluate("--checkpoint", "runs/a", "data.name=drawn:shapes").code == 0
