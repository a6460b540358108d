"""Command lines that pages, messages and the terminal propose: they run as they stand in a POSIX shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

_PROPOSED = re.compile(
    r"(?<=`)calig (?P<quoted>[a-z][^`]*)(?=`)|(?<=; see: )calig (?P<last>.+)$", re.MULTILINE
)
PLACES = {
    "audit",
    "compare",
    "doctor",
    "evaluate",
    "history",
    "init",
    "plan",
    "prune",
    "query",
    "rebuild",
    "report",
    "runs",
    "tag",
}
"""Commands with the option `--warehouse`."""
_opened: list[str] = []


def command(*words: str, warehouse: str | None = None) -> str:
    """Return the command line that runs calig with these words, in this warehouse if one is given."""
    placed = [*words, *(["--warehouse", warehouse] if warehouse is not None else [])]
    return " ".join([program(), *map(quoted, placed)])


def program() -> str:
    """Return `calig` if the shell finds it, else the path of the script beside this Python, else Python's own."""
    if shutil.which("calig"):
        return "calig"
    script = Path(sys.executable).with_name("calig")
    return quoted(str(script)) if os.access(script, os.X_OK) else f"{quoted(sys.executable)} -m calig"


def quoted(word: str) -> str:
    """Return a word for the shell: in double quotes where that is enough, so that SQL with its own quotes is legible.

    What does not print, such as a line break or a control of the text's direction, is written as the bytes of UTF-8.
    """
    if not word.isprintable():
        return "$'" + "".join(map(_escaped, word)) + "'"
    plain = shlex.quote(word)
    return plain if plain == word or set('"$`\\!') & set(word) else f'"{word}"'


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def work_in(place: str) -> None:
    """Remember the warehouse that this process opened last: its folder or URL."""
    _opened[:] = [place]


def complete(text: str, place: str | None = None) -> str:
    """Complete the commands in a message, in backquotes or behind `; see: `, so that they run as they stand.

    Most code that raises an error knows neither how calig was started nor which warehouse the user named. So messages
    have `calig rebuild`, and what shows them adds the program's path, where the shell does not find it, and the
    warehouse.

    Parameters
    ----------
    text
        The message. Commands that have `--warehouse` keep theirs.
    place
        The warehouse's folder or URL; by default the one that was opened last, or none.
    """
    place = place or next(iter(_opened), None)

    def completed(found: re.Match[str]) -> str:
        words = found["quoted"] or found["last"]
        own = words.split()[0] not in PLACES or "--warehouse" in words or place is None
        return f"{program()} {words}" + ("" if own else f" --warehouse {quoted(str(place))}")

    return _PROPOSED.sub(completed, text)
