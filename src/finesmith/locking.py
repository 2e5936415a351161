"""The lock of a folder: a file that the system holds for as long as the process lives that writes the folder.

The number in the file is only for messages. It cannot say whether its process lives: in a container the next one has
the same number, and on a shared disk it may be a process of another machine.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

NOT_KNOWN = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system answers that has no locks."""
TRIES, PAUSE = 5, 0.02
"""How often a lock is asked for, and the seconds in between: who only looks whether it is held has it for a moment."""


class Lock:
    """The lock file `path`; `take` holds it until `give_back` or the end of the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        self._handle: int | None = None

    @property
    def taken(self) -> bool:
        """Whether this object holds it."""
        return self._handle is not None

    def take(self) -> bool:
        """Takes it; False where another has it. `note` says where the file system cannot keep others away.

        Raises:
            OSError: the place cannot be written.
        """
        for _ in range(TRIES):
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if self._held_by_us(handle):
                self._handle = handle
                _TAKEN.add(self)
                self._sign()
                return True
            os.close(handle)
            time.sleep(PAUSE)
        return False

    def give_back(self) -> None:
        """Removes the file and lets go of it; twice does no harm."""
        if self._handle is None:
            return
        with suppress(PermissionError):  # Windows removes no open file
            self.path.unlink(missing_ok=True)
        self.forget()
        if sys.platform == "win32":
            with suppress(PermissionError):
                self.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Closes the file; a forked process does so, which must not hold the lock longer than the one that took it."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
        _TAKEN.discard(self)

    def holder(self) -> str:
        """Who holds it, in words: 'process 4711'; empty where nobody does."""
        try:
            with self.path.open(encoding="utf-8") as file:
                held = _hold(file.fileno(), shared=True) is False
                return f"process {file.read().strip() or 'of unknown number'}" if held else ""
        except OSError:
            return ""

    def _held_by_us(self, handle: int) -> bool:
        """Whether the open file is locked now, and still the one of this name: its last holder removes it."""
        held = _hold(handle)
        if held is None:
            self.note = f"the file system of '{self.path.parent}' has no locks: let no other process write there"
        with suppress(FileNotFoundError):
            return held is not False and os.path.samestat(os.fstat(handle), self.path.stat())
        return False

    def _sign(self) -> None:
        """Writes the number of this process."""
        assert self._handle is not None
        try:
            os.ftruncate(self._handle, 0)
            os.write(self._handle, str(os.getpid()).encode())
        except OSError:  # the disk is full
            self.give_back()
            raise


_TAKEN: set[Lock] = set()


def _forked() -> None:
    for lock in list(_TAKEN):
        lock.forget()


if sys.platform == "win32":
    import msvcrt

    def _hold(handle: int, *, shared: bool = False) -> bool | None:
        """Locks one byte far behind the number, so that it can be read; False where another process has done so."""
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    os.register_at_fork(after_in_child=_forked)

    def _hold(handle: int, *, shared: bool = False) -> bool | None:
        """Locks an open file; False where another has done so, None where the file system has no locks."""
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in NOT_KNOWN:
                return None
            raise
        return True
