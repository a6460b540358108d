"""What the folder of a mirror holds: which object of the store each of its files is.

It is a file in the folder, which all processes of this machine that work on the mirror share and change under a lock.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from calig.files import part_path
from calig.storage.catalog import Ref

STATE = ".mirror.json"


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the mirror: its object, whether that was in force when it was last looked at, and size and time."""

    object: str
    tag: str
    named: bool
    stamp: str

    @property
    def ref(self) -> Ref:
        """The object."""
        return Ref(self.object, self.tag)


@dataclass(slots=True)
class State:
    """All files of the mirror, by name; the object of its database; and a random name of this mirror."""

    files: dict[str, Held] = field(default_factory=dict)
    database: str | None = None
    mirror: str = field(default_factory=lambda: secrets.token_hex(8))


def stamp(path: Path) -> str:
    """Return what tells whether a file was written since: its size and time."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def read_state(root: Path) -> State:
    """Return what the mirror holds; nothing where that is not known."""
    try:
        value = json.loads((root / STATE).read_bytes())
        files = {name: Held(**held) for name, held in value["files"].items()}
        return State(files, value["database"], value["mirror"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return State()


@contextmanager
def changing_state(root: Path) -> Iterator[State]:
    """Give what the mirror holds, to be changed within the `with` block, and write it down."""
    with (root / f"{STATE}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_state(root)
        yield state
        part = part_path(root / STATE)
        part.write_text(json.dumps(asdict(state)))
        part.replace(root / STATE)
