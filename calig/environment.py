"""What the machine gives a command: its standard streams, a home folder, proxies, and a folder for Prefect's files."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import ipaddress
import os
import pwd
import stat
import sys
import tempfile
import urllib.parse
import urllib.request
from importlib.machinery import PathFinder
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

from calig.errors import InputError
from calig.stores import cache_home

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Addresses of this machine, which no proxy reaches."""


class _Output(FileIO):
    """Standard output or error that drops what is written once its reader has stopped reading, or its disk is full."""

    def write(self, data: Any, /) -> int:
        """Write `data`; that a pipe has no reader any more is no error, and that a disk is full is one, once."""
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                return len(data)
            raise


def prepare() -> None:
    """Make what the machine gives fit for a command; the command line calls it first.

    Closed standard streams are opened on the null device: a file that is opened later would take their numbers, and
    what is printed would go there. A reader that leaves, as `head` does, is not an error, and an encoding that has no
    place for a character shows it as an escape. Without a home folder, a temporary one stands for it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and stream.fileno() == number):
            setattr(sys, name, _text(number, stream))
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - it lasts as long as the process
    _home()
    _past_proxies()


def _text(number: int, stream: object) -> TextIOWrapper:
    """Return a text stream on a descriptor, with the encoding and buffering of the one that was there."""
    encoding, errors, lines = "utf-8", "strict", number == 2
    if isinstance(stream, TextIOWrapper):
        encoding, errors, lines = stream.encoding, stream.errors or errors, stream.line_buffering
        stream.flush()
    errors = "backslashreplace" if errors == "strict" else errors
    return TextIOWrapper(
        BufferedWriter(_Output(number, "wb", closefd=False)),
        encoding=encoding,
        errors=errors,
        line_buffering=lines,
        write_through=getattr(stream, "write_through", False),
    )


def has_home() -> bool:
    """Whether this user has a home folder, by HOME or by the users' database."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def _home() -> None:
    """Let a temporary folder stand for the home of a user who has none, and a number for the name."""
    if not has_home():
        os.environ["HOME"] = str(temporary_folder())
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))  # torch and others ask for it


def is_homeless() -> bool:
    """Whether a temporary folder stands for this user's home."""
    return not has_home() or Path.home() == _usual_temporary_folder()


def temporary_folder() -> Path:
    """Return this user's folder for what has no other place; nobody else can write in it.

    Where the name is taken by somebody else's folder, it is a fresh one.
    """
    folder = _usual_temporary_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))


def _usual_temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"calig-{os.getuid()}"


def _past_proxies() -> None:
    """Have this process and those that it starts reach this machine's own servers without a proxy."""
    if not any(urllib.request.getproxies_environment().get(kind) for kind in ("http", "https", "all")):
        return
    hosts = [*LOOPBACK]
    named = urllib.parse.urlsplit(os.environ.get("PREFECT_API_URL", "")).hostname
    if named and _is_loopback(named):
        hosts.append(named)
    # programs read one or the other
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    known = [host.strip() for host in before.split(",") if host.strip()]
    if "*" not in known:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*known, *hosts]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def use_own_packages() -> None:
    """Import `tasks` and `flows` from where calig lies, whatever folders of these names come first on the path."""
    place = str(Path(__file__).parents[1])
    for name in ("tasks", "flows"):
        found = PathFinder.find_spec(name, [place])
        if name in sys.modules or found is None or found.loader is None:
            continue
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def server_home() -> Path:
    """Return the folder that a Prefect server of calig's own keeps its database in: one per version of Prefect.

    The database of one version is no use to an older one.
    """
    folder = cache_home() / f"prefect-{importlib.metadata.version('prefect')}"
    return folder if unwritable(folder) is None else _temporary_prefect()


def prefect_home() -> str | None:
    """See that Prefect can write in its home; call it before Prefect is first imported.

    Without PREFECT_HOME, where `~/.prefect` cannot be written, a temporary folder takes its place, and the profiles
    of `~/.prefect` still count.

    Returns
    -------
    str or None
        What was done, in a line; None: nothing.

    Raises
    ------
    InputError
        PREFECT_HOME names a folder that cannot be written.
    """
    if named := os.environ.get("PREFECT_HOME"):
        if problem := unwritable(Path(named).expanduser()):
            raise InputError(
                f"PREFECT_HOME: {named} cannot be written ({problem}); set it to a folder that can, or unset it"
            )
        return None
    usual = Path.home() / ".prefect"
    problem = unwritable(usual)
    homeless = is_homeless()
    if problem is None and not homeless:
        return None
    folder = _temporary_prefect()
    os.environ["PREFECT_HOME"] = str(folder)
    if os.access(usual / "profiles.toml", os.R_OK):
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(usual / "profiles.toml"))
    why = "this user has no home folder" if homeless else f"{usual} cannot be written: {problem}"
    return f"Prefect's files go to {folder} ({why}); set PREFECT_HOME to keep them elsewhere"


def _temporary_prefect() -> Path:
    folder = temporary_folder() / f"prefect-{importlib.metadata.version('prefect')}"
    folder.mkdir(exist_ok=True)
    return folder


def unwritable(folder: Path) -> str | None:
    """Say why files cannot be made in a folder, which is created if need be; None: they can, or the disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        return "a file is there"
    except OSError as error:
        return None if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return None
