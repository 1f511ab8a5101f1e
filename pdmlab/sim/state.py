"""Where a virtual board keeps its flash and its card: one directory an id, with one owner at a time."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdmlab.errors import BoardError, ConfigError
from pdmlab.filelock import FileLock

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600  # a flash holds the root of trust and the credentials


def make_private(path: Path, mode: int) -> None:
    """Keep others from what a board has on it, where the file system can: Windows and FAT have no such modes."""
    with contextlib.suppress(OSError):
        path.chmod(mode)


class StateDirectory:
    """A virtual board's directory, locked from construction to `close`.

    The operating system drops the lock when its owner ends, however it ends.

    Raises:
        PortBusy: another process, or another board of this one, owns it.
        ConfigError: the id is no plain name, or the directory belongs to another kind of board.
    """

    def __init__(self, root: Path, board_id: str, target: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", board_id):
            raise ConfigError(
                f"{board_id!r} is no id for a virtual board", hint="use letters, digits, '.', '_' and '-', at most 64"
            )
        self.path = root / "boards" / board_id
        try:
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            make_private(self.path, PRIVATE_FOLDER)
            self._lock = FileLock(
                self.path / "lock",
                f"the virtual board {board_id!r}",
                hint="close it there, or take another id: sim://" + target + "?id=desk2, or --id desk2",
            )
        except OSError as error:
            raise BoardError(
                f"the state directory {self.path} cannot be used: {error.strerror}",
                hint="set PDMLAB_STATE to a folder that you may write to",
            ) from error
        try:
            self._check_target(target)
        except BaseException:
            self.close()
            raise

    def _check_target(self, target: str) -> None:
        file = self.path / "board.json"
        if not file.exists():
            file.write_text(json.dumps({"target": target}) + "\n", encoding="utf-8")
            return
        try:
            found = json.loads(file.read_text(encoding="utf-8"))["target"]
        except (ValueError, KeyError, TypeError):
            found = "unreadable"
        if found != target:
            raise ConfigError(
                f"{self.path} holds the flash of a {found}, not of a {target}",
                hint="take another id, or delete that folder",
            )

    def note_layout(self, now: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
        """Keep the flash layout by which the board is written; return the one kept before, or None, and this one.

        Both as they come out of the file, so that they can be compared.
        """
        file = self.path / "layout.json"
        text = json.dumps(now, indent=1, sort_keys=True) + "\n"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != json.loads(text):
            file.write_text(text, encoding="utf-8")
        return found if isinstance(found, dict) else None, json.loads(text)

    def close(self) -> None:
        """Give the directory back."""
        self._lock.close()
