"""The run on disk: whole files or none, one writer at a time, and messages that say the way out."""

import json
import multiprocessing
import os
import stat

import pytest

from finesmith.errors import RunError
from finesmith.run import free_name
from finesmith.runfolder import RunFolder, write_file


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path / "run")
    yield made
    made.release()


def names(path):
    return sorted(item.name for item in path.iterdir())


def test_what_is_written_is_read(folder):
    folder.write_json("a.json", {"text": "é\u2028☃", "none": None})
    folder.write_lines("predictions/b.jsonl", [{"n": 1}, {"text": "two\nlines \u2028"}])
    folder.append("steps.jsonl", {"step": 1})
    folder.append("steps.jsonl", {"step": 2})
    assert folder.read_json("a.json") == {"text": "é\u2028☃", "none": None}
    assert list(folder.read_lines("predictions/b.jsonl")) == [{"n": 1}, {"text": "two\nlines \u2028"}]
    assert [row["step"] for row in folder.read_lines("steps.jsonl")] == [1, 2]
    assert names(folder.path) == ["a.json", "lock", "predictions", "steps.jsonl"]


def test_a_write_that_fails_leaves_what_was_there(folder):
    folder.write_text("a.txt", "before")

    def half(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError) as error:
        folder.write_with("a.txt", half)
    assert error.value.message == f"Cannot write {folder.path}/a.txt: No space left on device."
    assert error.value.hint == "Is the disk full or the folder read-only?"
    assert folder.file("a.txt").read_text() == "before" and names(folder.path) == ["a.txt", "lock"]


def test_a_folder_that_fails_half_way_leaves_nothing(folder):
    def half(path):
        path.mkdir()
        (path / "weights").write_text("half")
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        folder.write_with("model", half)
    assert names(folder.path) == ["lock"]


def test_a_folder_replaces_the_one_before(folder):
    for content in ("first", "second"):

        def write(path, content=content):
            path.mkdir()
            (path / content).write_text(content)

        folder.write_with("model", write)
    assert names(folder.file("model")) == ["second"]


def test_remove_takes_files_and_folders_and_what_is_not_there(folder):
    folder.write_text("a.txt", "")
    folder.write_text("b/c.txt", "")
    for name in ("a.txt", "b", "nothing"):
        folder.remove(name)
    assert names(folder.path) == ["lock"]


def test_steps_after_the_last_saved_one_are_cut_and_a_torn_line_too(folder):
    for step in range(1, 6):
        folder.append("steps.jsonl", {"step": step})
    with folder.file("steps.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert [row["step"] for row in folder.cut_steps(3)] == [1, 2, 3]
    assert [row["step"] for row in folder.read_lines("steps.jsonl")] == [1, 2, 3]
    folder.remove("steps.jsonl")
    assert folder.cut_steps(3) == []


def test_a_run_that_wrote_nothing_leaves_no_folder(tmp_path):
    for place in ("run", "new/deep/run"):
        RunFolder.create(tmp_path / place).release()
    assert not (tmp_path / "run").exists()
    (tmp_path / "given").mkdir()
    folder = RunFolder.create(tmp_path / "given")
    folder.write_text("recipe.yaml", "")
    folder.release()
    folder.release()  # twice does no harm
    assert names(tmp_path / "given") == ["recipe.yaml"]


def test_a_second_writer_is_refused(folder):
    with pytest.raises(RunError) as error:
        RunFolder.create(folder.path)
    assert str(folder.path) in error.value.message
    folder.write_text("recipe.yaml", "data: a.csv\n")
    with pytest.raises(RunError) as error:
        RunFolder.reopen(folder.path)
    assert error.value.message == f"The run '{folder.path}' is being written by process {os.getpid()}."


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    (tmp_path / "recipe.yaml").write_text("")
    (tmp_path / "lock").write_text(str(process.pid))
    folder = RunFolder.reopen(tmp_path)
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    folder.release()
    assert names(tmp_path) == ["recipe.yaml"]


def test_a_torn_lock_is_taken_over(tmp_path):
    (tmp_path / "recipe.yaml").write_text("")
    (tmp_path / "lock").write_text("")
    RunFolder.reopen(tmp_path).release()


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (["evidence.json", "recipe.yaml"], "holds a finished run.", "Choose another folder with --out."),
        (["recipe.yaml"], "holds an unfinished run.", "Go on with it: finesmith resume {run}; or choose another"),
        (["photo.jpg"], "is a folder with other files in it.", "Choose another folder with --out."),
    ],
)
def test_a_taken_folder_is_not_touched(tmp_path, files, message, hint):
    for name in files:
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError) as error:
        RunFolder.create(tmp_path)
    assert error.value.message == f"'{tmp_path}' {message}"
    assert error.value.hint.startswith(hint.format(run=tmp_path))
    assert names(tmp_path) == sorted(files)


def test_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file; a run needs a folder"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(RunError, match="Cannot write"):
        RunFolder.create(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match="Permission denied"):
        RunFolder.create(tmp_path / "run")


def test_what_is_required(tmp_path):
    with pytest.raises(RunError, match="There is no run folder") as error:
        RunFolder(tmp_path / "nothing").require("recipe.yaml")
    assert error.value.hint == "`finesmith tune` makes one."
    with pytest.raises(RunError, match=r"is not a run: it has no recipe.yaml\.\nGive a folder that"):
        RunFolder(tmp_path).require("recipe.yaml")
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match=r"has not finished: it has no evidence.json") as error:
        RunFolder(tmp_path).require("evidence.json")
    assert f"finesmith resume {tmp_path}" in error.value.hint
    (tmp_path / "evidence.json").write_text("{}")
    with pytest.raises(RunError, match=r"is finished") as error:
        RunFolder.reopen(tmp_path)
    assert error.value.hint == f"See it with: finesmith show {tmp_path}"


def test_free_names(tmp_path):
    assert free_name(tmp_path / "tickets").name == "tickets"
    (tmp_path / "tickets").mkdir()
    assert free_name(tmp_path / "tickets").name == "tickets-2"
    (tmp_path / "tickets-2").mkdir()
    assert free_name(tmp_path / "tickets").name == "tickets-3"


def test_a_file_outside_a_run(tmp_path):
    write_file(tmp_path / "answers.jsonl", json.dumps({"a": "é"}))
    assert json.loads((tmp_path / "answers.jsonl").read_text(encoding="utf-8")) == {"a": "é"}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        write_file(tmp_path / "file" / "answers.jsonl", "")


def test_a_run_at_work_says_how_far_it_is(folder):
    folder.write_text("recipe.yaml", "")
    with pytest.raises(RunError, match=f"is running: process {os.getpid()}."):
        folder.require("evidence.json")
    folder.append("steps.jsonl", {"step": 120, "of": 400})
    with folder.file("steps.jsonl").open("a") as file:
        file.write('{"step": 12')
    with pytest.raises(RunError, match=f"is running: step 120 of 400, process {os.getpid()}."):
        folder.require("evidence.json")
    folder.release()
    with pytest.raises(RunError, match="has not finished") as caught:
        folder.require("evidence.json")
    assert "resume" in caught.value.hint
