import pytest

from gcp.engine.folder import RunFolder, create_run_folder, find_run_folder
from gcp.errors import GCPError


@pytest.fixture
def runs(tmp_path):
    """runs/digits-1 and runs/digits-2 with a configuration, runs/empty without."""
    for name in ("digits-1", "digits-2", "empty"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("digits-1", "digits-2"):
        (tmp_path / "runs" / name / "config.yaml").write_text("run: {}\n")
    return tmp_path / "runs"


# ---------------------------------------------------------------- making one


def test_the_first_free_number_is_taken(tmp_path):
    parent = tmp_path / "a" / "b"
    names = [create_run_folder(parent, None, "digits-resnet").path.name for _ in range(3)]
    assert names == ["digits-resnet-1", "digits-resnet-2", "digits-resnet-3"]
    (parent / "digits-resnet-2").rmdir()
    assert create_run_folder(parent, None, "digits-resnet").path.name == "digits-resnet-2"


def test_a_name_of_ones_own_and_an_empty_folder_that_is_there(tmp_path):
    (tmp_path / "mine").mkdir()
    assert create_run_folder(tmp_path, "mine", "x").path == tmp_path / "mine"
    assert create_run_folder(tmp_path, "other", "x").path.is_dir()


def test_a_folder_with_a_run_is_refused_with_the_way_to_continue_it(runs):
    with pytest.raises(GCPError, match=r"digits-1 .*not empty.*gcp train resume=.*digits-1"):
        create_run_folder(runs, "digits-1", "x")
    (runs / "empty" / "notes.txt").write_text("")
    with pytest.raises(GCPError, match=r"empty .*not empty.*run\.name"):
        create_run_folder(runs, "empty", "x")


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    for parent, name in ((tmp_path / "file", None), (tmp_path / "file" / "deeper", "a"), (tmp_path, "file")):
        with pytest.raises(GCPError, match=r"cannot make a run folder in .*Set run\.dir=FOLDER"):
            create_run_folder(parent, name, "x")
    with pytest.raises(GCPError, match=r"\S+file: \S+file is a file\. Set"):
        create_run_folder(tmp_path / "file", None, "x")


# ---------------------------------------------------------------- finding one


@pytest.mark.parametrize(
    "given", ["{}/digits-1", "{}/digits-1/", "{}/digits-1/last.pt", "digits-1", "digits-1/last.pt"]
)
def test_by_path_by_a_file_in_it_and_by_name(runs, given):
    (runs / "digits-1" / "last.pt").write_bytes(b"")
    assert find_run_folder(given.format(runs), runs).path == runs / "digits-1"


def test_from_inside(runs, monkeypatch):
    monkeypatch.chdir(runs / "digits-1")
    for given in (".", "last.pt", "config.yaml"):
        (runs / "digits-1" / "last.pt").write_bytes(b"")
        assert find_run_folder(given).path.resolve() == runs / "digits-1"


def test_a_path_goes_before_a_name(runs, tmp_path, monkeypatch):
    (tmp_path / "digits-1").mkdir()
    (tmp_path / "digits-1" / "config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_run_folder("digits-1", "runs").path.resolve() == tmp_path / "digits-1"


def test_a_run_that_is_not_there_names_the_nearest(runs):
    with pytest.raises(GCPError, match=r"digits-3 .*Did you mean .*runs/digits-[12]\?"):
        find_run_folder("digits-3", runs)
    with pytest.raises(GCPError, match=r"empty is there, but has no config\.yaml"):
        find_run_folder(runs / "empty", runs)
    with pytest.raises(GCPError, match="no run to be found: looked for x and "):
        find_run_folder("x", runs / "nowhere")


def test_a_file_that_is_not_there_is_not_its_folder(runs):
    """A mistyped name of a file must not silently be another one."""
    with pytest.raises(GCPError, match="no run to be found"):
        find_run_folder(runs / "digits-1" / "lst.pt", runs)


# ---------------------------------------------------------------- the lock


def test_only_one_process_writes_a_run(tmp_path):
    pytest.importorskip("fcntl")
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.lock()
    with pytest.raises(GCPError, match=r"another process.* wait "):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    first.unlock()  # once too often does no harm


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    folder = create_run_folder(tmp_path, "new", "x")
    folder.config.write_text("")
    folder.lock()
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_discarding_keeps_what_others_put_there(tmp_path):
    folder = create_run_folder(tmp_path, "new", "x")
    folder.config.write_text("")
    (folder.path / "notes.txt").write_text("keep")
    folder.discard()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_stages_in_the_order_of_their_numbers(tmp_path):
    for name in ("stage-10", "stage-2", "stage-1", "stage-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "stage-3").write_text("a file")
    assert [folder.path.name for folder in RunFolder(tmp_path).stages()] == ["stage-1", "stage-2", "stage-10"]
    assert RunFolder(tmp_path).stage(2).path == tmp_path / "stage-2"


def test_the_whole_run_of_a_stage(tmp_path, monkeypatch):
    stage = tmp_path / "stage-1"
    stage.mkdir()
    assert RunFolder(stage).whole().path == stage, "no run around it"
    (tmp_path / "config.yaml").write_text("")
    assert RunFolder(stage).whole().path == tmp_path == RunFolder(tmp_path).whole().path
    monkeypatch.chdir(stage)
    assert RunFolder(".").whole().path == tmp_path


def test_a_run_that_never_began_leaves_no_folder_that_was_made_for_it(tmp_path):
    """The folder of runs goes where it was made for this run, and stays where it was there or another run is in it."""
    create_run_folder(tmp_path / "a" / "runs", None, "digits").discard()
    assert not (tmp_path / "a").exists()
    (tmp_path / "runs").mkdir()
    create_run_folder(tmp_path / "runs", "mine", "digits").discard()
    assert (tmp_path / "runs").is_dir() and not any((tmp_path / "runs").iterdir())
    first = create_run_folder(tmp_path / "b", None, "digits")
    second = create_run_folder(tmp_path / "b", None, "digits")
    first.discard()
    assert second.path.is_dir()
