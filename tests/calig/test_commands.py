"""Proposed commands run as they stand: quoted for a shell, with the program and the warehouse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from calig import cli, commands

WORDS = (
    *("plain", "@misled", "", "a b", "it's", 'say "x"', "SELECT 'a' FROM t WHERE b != 1", "$HOME `id` \\ !x"),
    *("evil\u202etxt", "two\nlines' b", "\u202e1 after", "/my w/für", "~/w", "a\xa0b"),
)


@pytest.mark.parametrize("word", WORDS)
def test_a_shell_reads_a_quoted_word_as_it_is(word: str) -> None:
    shown = commands.quoted(word)
    assert shown.isprintable()
    read = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert read.decode() == word


def test_the_program_is_called_by_its_path_where_the_shell_does_not_find_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/calig")
    assert commands.command("runs", warehouse="my w") == 'calig runs --warehouse "my w"'
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    python = tmp_path / "my env" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert commands.command("runs") == f'"{python}" -m calig runs'
    script = python.with_name("calig")
    script.parent.mkdir()
    script.touch(mode=0o755)
    assert commands.command("runs") == f'"{script}" runs'


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("x is damaged: run `calig rebuild` first", "x is damaged: run `calig rebuild --warehouse /w` first"),
        (
            "a, `calig plan C.yaml`, then `calig audit C.yaml`",
            "a, `calig plan C.yaml --warehouse /w`, then `calig audit C.yaml --warehouse /w`",
        ),
        ("b; see: calig query @misled --run r", "b; see: calig query @misled --run r --warehouse /w"),
        ("c; see: calig runs\nd; see: x", "c; see: calig runs --warehouse /w\nd; see: x"),
        ("e `calig runs --warehouse /v`", "e `calig runs --warehouse /v`"),
        ("f `calig explain --model m`", "f `calig explain --model m`"),
        ("g calig runs, `calig.duckdb`", "g calig runs, `calig.duckdb`"),
    ],
)
def test_commands_in_a_message_are_completed_once(
    text: str, completed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/calig")
    monkeypatch.setattr(commands, "_opened", [])
    commands.work_in("/w")
    assert commands.complete(text) == completed
    assert commands.complete(completed, "/other") == completed


def test_each_command_with_a_warehouse_is_known() -> None:
    made: Any = typer.main.get_command(cli.app)
    options = {
        name: {one for option in of.params for one in option.opts} for name, of in made.commands.items()
    }
    assert {name for name, known in options.items() if "--warehouse" in known} == commands.PLACES
