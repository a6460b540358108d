"""What a file is by its first bytes, where that is not what its name says.

Readers trust names, and say of a gzip file called .csv that it is not UTF-8. Nothing is read that the name does not
say: one line names what the file is, and what to do.
"""

from __future__ import annotations

from pathlib import Path

from calig.corpus.lines import open_binary
from calig.errors import InputError

_HEAD = 1024
_PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_ENDINGS = {kind: ending for ending, kind in _PACKED.items()}
_OTHER_TABLE = "write it as Parquet, CSV or JSONL"
_SIGNS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip", ""),
    (b"BZh", "bzip2", ""),
    (b"\xfd7zXZ\x00", "xz", ""),
    (b"\x28\xb5\x2f\xfd", "zstd", ""),
    (b"PK\x03\x04", "a zip file, as those of Excel (.xlsx) are", "unpack it, or save the sheet as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "a file of Excel (.xls) or another old Office program", "save it as CSV"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"ARROW1", "an Arrow (Feather) file", _OTHER_TABLE),
    (b"ORC", "an ORC file", _OTHER_TABLE),
    (b"Obj\x01", "an Avro file", _OTHER_TABLE),
    (b"SQLite format 3\x00", "an SQLite database", _OTHER_TABLE),
    (b"\x89HDF", "an HDF5 file", _OTHER_TABLE),
    (b"\x93NUMPY", "a NumPy file", _OTHER_TABLE),
    (b"%PDF-", "a PDF", "extract its text first"),
    (b"\x89PNG", "a PNG image", "name it .png"),
    (b"\xff\xd8\xff", "a JPEG image", "name it .jpg"),
)
"""What files begin with; a sign that letters alone make counts only where bytes follow that no text has."""
_POINTER = b"version https://git-lfs"


def check_kind(path: Path, form: str) -> None:
    """Raise an InputError if a file's first bytes say that it is not what its name says.

    Parameters
    ----------
    path
        The file.
    form
        What its name says: Parquet, CSV or JSONL.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return
    named = _PACKED.get(path.suffix.lower())
    kind, cure = _kind_of(head)
    if named is not None:
        if kind != named:
            plain = kind is None and b"\0" not in head and not _is_utf16(head)
            what = "text" if plain else f"{_a(kind)} file" if kind in _ENDINGS else kind
            if what is None:  # unknown bytes: damage, which reading names
                return
            ending = "" if plain else _ENDINGS.get(str(kind), "")
            do = f"name it {path.stem}{ending}" if plain or ending else cure
            raise InputError(f"{path} is truncated or no {named} file: it is {what}; {do}")
        with open_binary(path) as unpacked:
            head = unpacked.read(_HEAD)
        kind, cure = _kind_of(head)
        if kind == named:
            raise InputError(f"{path} is packed twice by {named}: unpack it once")
    if kind in _ENDINGS:
        do = f"name it {path.name}{_ENDINGS[str(kind)]}" if form != "Parquet" else "unpack it"
        raise InputError(f"{path} is {_a(kind)} file, whatever its name says: {do}")
    if kind is not None and not (form == "Parquet" and kind == "a Parquet file"):
        raise InputError(f"{path} is {kind}, whatever its name says: {cure}")
    if form != "Parquet":
        _check_text(path, form, head)
    elif kind is None and b"\0" not in head:
        raise InputError(
            f"{path} is text, not Parquet, whatever its name says: name it by what it is, such as .csv"
        )


def _kind_of(head: bytes) -> tuple[str | None, str]:
    """The kind that the bytes begin as, and what to do with such a file; None where it is none of those known."""
    for sign, kind, cure in _SIGNS:
        if head.startswith(sign) and not _is_text(head):
            return kind, cure
    if head.startswith(_POINTER):
        return "a pointer of Git LFS in place of the data", "fetch the data with `git lfs pull`"
    return None, ""


def _a(kind: str | None) -> str:
    return f"an {kind}" if kind == "xz" else f"a {kind}"


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def _is_utf16(head: bytes) -> bool:
    """Whether the bytes are UTF-16 (or UTF-32): by their mark, or since half of them are zero."""
    zeros = max(head[:64:2].count(0), head[1:64:2].count(0))
    return head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) > 8 and zeros > 0.8 * len(head[:64]) / 2)


def _check_text(path: Path, form: str, head: bytes) -> None:
    if _is_utf16(head):
        # iconv finds the order of the bytes by the mark; without one it has to be named
        marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
        if marked and head[2:4] == b"\0\0":
            raise InputError(
                f"{path} is UTF-32, not UTF-8: convert it, for example iconv -f utf-32 -t utf-8 {path.name}"
            )
        name = "utf-16" if marked else "utf-16le" if head[1:2] == b"\0" else "utf-16be"
        raise InputError(
            f"{path} is UTF-16, not UTF-8: convert it, for example iconv -f {name} -t utf-8 {path.name}"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:15].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise InputError(f"{path} is a web page (or XML), whatever its name says: fetch the data itself")
    if form != "JSONL":
        return
    if start.startswith(b"["):
        raise InputError(
            f"{path} is a JSON array, not one object per line: jq -c '.[]' {path.name} writes it as JSON Lines"
        )
    if start.splitlines()[:1] == [b"{"]:
        raise InputError(
            f"{path} has objects over several lines, not one per line: jq -c . {path.name} writes it as JSON Lines"
        )
