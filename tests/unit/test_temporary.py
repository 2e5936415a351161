"""A full disk for temporary files: one line that names the folder and the variable that moves it."""

import tempfile
from contextlib import contextmanager

import numpy as np
import pytest

from finesmith.data import temporary
from finesmith.data.store import Writer
from finesmith.errors import RunError
from finesmith.tasks.base import Encoded
from finesmith.train.batches import EncodedSet
from finesmith.types import Example, Origin

resource = pytest.importorskip("resource", reason="limits of files are POSIX")


@contextmanager
def largest_file(size):
    """Files of this process can have so many bytes: like a full disk, the error names no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sequences():
    return [Encoded(row, np.zeros(5000, np.int32), np.ones(5000, np.float32)) for row in range(4)]


def rows():
    writer = Writer(in_memory=0)
    for number in range(50):
        writer.add(Example(str(number), "x" * 2000, "a", Origin("f", number)))
    return writer.close()


@pytest.mark.parametrize("write", [lambda: EncodedSet(sequences()), rows], ids=["tokens", "rows"])
def test_no_room_for_temporary_files_is_said_with_the_folder(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with largest_file(4096), pytest.raises(RunError, match=f"temporary files to {tmp_path}: ") as caught:
        write()
    assert "TMPDIR" in caught.value.hint
    assert len(write()) > 0, "with room it goes on"


def test_an_error_over_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), temporary.written():
        (tmp_path.parent / "none").read_text()
