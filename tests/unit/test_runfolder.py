"""The run on disk: whole files or none, one writer at a time, and messages that say the way out."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from finesmith import predictor
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


@pytest.mark.parametrize(("held", "why"), [(b"", "it is empty"), (b'{"gains": {', "Expecting"), (b"\xff\xfe", "")])
def test_a_damaged_file_is_named(folder, held, why):
    for name in ("evidence.json", "finesmith.json"):
        folder.file(name).write_bytes(held)
    with pytest.raises(RunError, match=f"evidence.json is damaged: {why}"):
        folder.read_json("evidence.json")
    with pytest.raises(RunError, match=f"finesmith.json is damaged: {why}"):
        predictor.card_of(folder.path)
    folder.file("rows.jsonl").write_bytes(b"{}\n" + (held or b"\n"))
    with pytest.raises(RunError, match=r"rows.jsonl:2 is damaged"):
        list(folder.read_lines("rows.jsonl"))


def test_a_text_that_is_not_utf_8_is_named(folder):
    folder.file("README.md").write_bytes("Größe".encode("cp1252"))
    with pytest.raises(RunError, match=r"README.md is not UTF-8 text: byte 3 is 0xf6") as error:
        folder.read_text("README.md")
    assert error.value.hint == "Save it as UTF-8, then do this again."


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


def new(path):
    path.mkdir()
    (path / "new").write_text("")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PermissionError(1, "Operation not permitted")])
def test_a_folder_that_cannot_be_replaced_is_still_there(folder, monkeypatch, error):
    folder.write_with("model", lambda path: (path.mkdir(), (path / "old").write_text("")))

    def refused(*places):
        raise error

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises((KeyboardInterrupt, RunError)):
        folder.write_with("model", new)
    assert names(folder.file("model")) == ["old"] and names(folder.path) == ["lock", "model"]


def test_a_folder_that_cannot_be_removed_stands_aside_whole(folder, monkeypatch):
    folder.write_with("model", lambda path: (path.mkdir(), (path / "old").write_text("")))

    def refused(*places, **more):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("shutil.rmtree", refused)
    folder.write_with("model", new)
    assert names(folder.file("model")) == ["new"]


def test_a_link_is_replaced_and_what_it_leads_to_is_not(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder.file("model").symlink_to(tmp_path / "elsewhere")
    folder.write_with("model", new)
    assert names(folder.file("model")) == ["new"] and not folder.file("model").is_symlink()
    assert names(tmp_path / "elsewhere") == [] and names(folder.path) == ["lock", "model"]


def test_what_a_killed_process_left_half_written_is_in_nobodys_way(folder):
    def write(path):
        path.mkdir()
        (path / "weights").write_text("whole")

    for name in (".model.part", "predictions/.b.jsonl.part", ".tuned.part"):
        folder.file(name).mkdir(parents=True)
        (folder.file(name) / "weights.old").write_text("half")
    folder.write_with("model", write)
    folder.copy("model", "tuned")
    folder.write_lines("predictions/b.jsonl", [{"n": 1}])
    assert names(folder.path) == ["lock", "model", "predictions", "tuned"]
    assert names(folder.file("model")) == names(folder.file("tuned")) == ["weights"]
    assert names(folder.file("predictions")) == ["b.jsonl"]


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


def test_a_folder_with_nothing_but_the_lock_of_a_killed_process_is_empty(tmp_path):
    (tmp_path / "lock").write_text("4711")
    folder = RunFolder.create(tmp_path)
    folder.write_text("recipe.yaml", "")
    folder.release()
    assert names(tmp_path) == ["recipe.yaml"]


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


def test_a_killed_process_of_the_same_number_is_no_holder(tmp_path):
    (tmp_path / "recipe.yaml").write_text("")
    (tmp_path / "lock").write_text(str(os.getpid()))  # in a container every run is process 1
    folder = RunFolder.reopen(tmp_path)
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    folder.release()
    assert names(tmp_path) == ["recipe.yaml"]


HOLD = """
import os, sys, time
from finesmith.runfolder import RunFolder
folder = RunFolder.create(sys.argv[1])
folder.write_text("recipe.yaml", "")
if "fork" in sys.argv and not os.fork():
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """`holder(*arguments)`: another process that holds the lock of `tmp_path / "run"`; it and its forks are ended."""
    begun = []

    def get(*arguments):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), *arguments]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        assert begun[-1].stdout.readline() == "held\n"
        return begun[-1]

    yield get
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_living_holder_whose_number_says_nothing_here_is_not_pushed_aside(holder, tmp_path):
    holder()
    (tmp_path / "run" / "lock").write_text("999999999")  # the number of a process on another machine
    with pytest.raises(RunError, match="is being written by process 999999999"):
        RunFolder.reopen(tmp_path / "run")
    with pytest.raises(RunError, match="is running: process 999999999"):
        RunFolder(tmp_path / "run").require("evidence.json")


@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "with a fork that lives on"])
def test_a_run_that_was_killed_with_kill_9_is_taken_over(holder, tmp_path, arguments):
    process = holder(*arguments)
    with pytest.raises(RunError, match=f"is being written by process {process.pid}"):
        RunFolder.reopen(tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / "lock").read_text() == str(process.pid)
    RunFolder.reopen(tmp_path / "run").release()
    assert names(tmp_path / "run") == ["recipe.yaml"]


def test_a_fork_does_not_give_the_lock_back(folder):
    if not (child := os.fork()):
        folder.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert names(folder.path) == ["lock"]
    with pytest.raises(RunError):
        RunFolder.create(folder.path)


def test_who_only_looks_does_not_keep_a_run_from_beginning(folder):
    folder.write_text("recipe.yaml", "")
    folder.release()
    (folder.path / "lock").write_text("1")
    with (folder.path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if not (child := os.fork()):
            time.sleep(0.03)
            fcntl.flock(file, fcntl.LOCK_UN)
            os._exit(0)
        RunFolder.reopen(folder.path).release()
        os.waitpid(child, 0)


def test_where_the_file_system_has_no_locks_the_run_goes_on_and_says_so(tmp_path, monkeypatch):
    def without(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    folder = RunFolder.create(tmp_path / "run")
    assert folder.notes == (f"the file system of '{folder.path}' has no locks: let no other process write there",)
    folder.write_text("recipe.yaml", "")
    folder.release()
    assert names(folder.path) == ["recipe.yaml"]
    with pytest.raises(RunError, match="has not finished"):
        folder.require("evidence.json")


def test_a_lock_that_cannot_be_written_is_said_and_not_left(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match=r"Cannot write .*lock: No space left on device"):
        RunFolder.reopen(tmp_path)
    assert names(tmp_path) == ["recipe.yaml"]


def test_no_open_file_is_left(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else pytest.skip("asks Linux")
    for _ in range(3):
        with RunFolder.temporary() as folder:
            folder.write_text("recipe.yaml", "")
    assert len(os.listdir("/proc/self/fd")) == before


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


def test_a_read_only_place(powerless):
    place, somebody = powerless
    (place / "shut").mkdir(mode=0o555)
    with somebody():
        with pytest.raises(RunError, match="Permission denied"):
            RunFolder.create(place / "shut" / "run")
        RunFolder.create(place / "run").release()


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
