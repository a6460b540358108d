"""Every command that a page or the terminal proposes runs as it stands, from any folder."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer.main
import yaml

from calig import changes, cli
from calig import stages as audits
from calig.config import AuditConfig, load_config, parse_config
from calig.errors import GateError
from calig.evaluating import stages as evaluations
from calig.gates import enforce
from calig.report import evaluation as evaluation_page
from calig.warehouse.gates import read_gates
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs
from tests.material.nights import audit_night
from tests.material.tiers import extended
from tests.material.tiny import audit_dict, make_rows, save_model, write_parquet

pytestmark = extended("two nights and an evaluation, and every command that they propose")

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
NAMED = re.compile(rf"\bcalig (?:{'|'.join(COMMANDS)})\b")
PROPOSED = re.compile(
    rf"`(calig (?:{'|'.join(COMMANDS)})\b[^`\n]*)`|(?:; see: |^ask:    |more rows: )(calig .+)$", re.MULTILINE
)
PROSE = ("(calig query @name, parameters as name=value after it)",)
"""What names a command and proposes none."""
PARSED_ALONE = ("audit", "evaluate", "plan")
"""Commands that are expensive, or need a file of the user's: only their options are tried."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A `calig` on the shell's path that prints its words."""
    made: Path = tmp_path_factory.mktemp("bin") / "calig"
    made.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    made.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(made.parent), prepend=":")
        yield made


@pytest.fixture(scope="module")
def audited(program: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> AuditConfig:
    """Two nights, the model replaced between them, whose gates fail, and an evaluation; a path that needs quotes."""
    folder = tmp_path_factory.mktemp("it's") / "a place"
    corpus = write_parquet(
        folder / "rows.parquet", [*make_rows(40), {"id": "x", "text": "", "label": 0, "topic": ""}]
    )
    gates = {"min_accuracy": 0.99, "max_failure_share": 0.0, "max_watched_share": {"films": 0.0}}
    gates |= {"min_converged_share": 1.0, "max_flip_share": 0.0, "drift": {}}
    gates |= {"false_alarms_per_year": 350}  # so that words of few documents are tested
    gates |= {
        "sql": [{"name": "long", "sql": "SELECT doc_id FROM documents WHERE tokens > 3 AND topic <> '!'"}]
    }
    shared = {"gates": gates, "watch": {"films": ["film", "the"]}}
    for model in (tiny_model, save_model(folder / "other", seed=5)):
        data = audit_dict(model, corpus, folder / "our audits") | shared
        audit_night(parse_config(data | {"compare_to": ["previous"]}))
    config = parse_config(
        data | {"evaluation": {"documents": 7, "methods": ["random", "ca-lig"], "metrics": ["faithfulness"]}}
    )
    known = audits.describe_model(config)
    warehouse = Warehouse.open(config.warehouse)
    evaluation = evaluations.start_evaluation(
        warehouse,
        config,
        known,
        audits.bring_in(warehouse, config, known),
    )
    for portion in evaluations.missing_portions(evaluation):
        evaluations.evaluate_portion(evaluation, portion)
    evaluations.close_evaluation(evaluation, {})
    evaluation_page.build(warehouse, evaluation.evaluation_id)
    return config


@pytest.fixture
def shell(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `calig` on the shell's path; the working directory has no warehouse."""
    monkeypatch.chdir(tmp_path)
    return program


def words_of(command: str) -> list[str]:
    """What calig is given when a shell reads this line."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def call(words: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def tried(command: str) -> int:
    """The exit code of a command; 0 for one whose options alone are tried, and taken."""
    name, *words = words_of(command)
    if name not in PARSED_ALONE:
        return call([name, *words])
    assert "--warehouse" in words
    COMMANDS[name].make_context(name, words)
    return 0


def proposed(text: str) -> set[str]:
    """The commands in what a terminal shows; one that is named otherwise is an error."""
    found = {one or other for one, other in PROPOSED.findall(text)}
    rest = text
    for known in (*sorted(found, key=len, reverse=True), *PROSE):
        rest = rest.replace(known, "")
    assert NAMED.findall(rest) == [], rest
    return found


def on_pages(warehouse: Path) -> set[str]:
    """The commands on all pages of a warehouse, of which each kind has one at least."""
    found: set[str] = set()
    for kind in ("runs/*/report", "runs/*/comparisons/*", "evaluations/*/report", "history/*"):
        pages = [path.read_text("utf-8") for path in warehouse.glob(f"{kind}/index.html")]
        assert pages, kind
        for page in pages:
            page = re.sub(r"<(script|style|title).*?</\1>", "", page, flags=re.DOTALL)
            copied = {
                html.unescape(one)
                for one in re.findall(r"<pre tabindex=\"0\"><code>(calig .*?)</code>", page)
            }
            rest = html.unescape(re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL))
            assert NAMED.findall(rest) == [], "a command within a sentence"
            found |= copied
    return found


@pytest.mark.usefixtures("shell")
def test_commands_on_pages_run(audited: AuditConfig, capsys: pytest.CaptureFixture[str]) -> None:
    commands = on_pages(Path(audited.warehouse))
    assert {words_of(command)[0] for command in commands} == {"audit", "evaluate", "query", "history"} - {
        "history"
    }
    assert len(commands) >= 12
    for command in commands:
        assert tried(command) == 0, (command, capsys.readouterr())


@pytest.mark.usefixtures("shell")
def test_commands_in_the_terminal_run(
    audited: AuditConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse.open(audited.warehouse)
    first, last = (run.run_id for run in sorted(list_runs(warehouse), key=lambda run: run.run_id))
    monkeypatch.setattr(changes, "WORDS", 0)
    cli._print_run(warehouse, audited, last, 1.0)
    with pytest.raises(GateError) as failed:
        enforce(last, read_gates(warehouse.run(last)))
    for words in (
        ["compare", first, last],
        ["runs"],
        ["history"],
        ["history", "accuracy"],
        ["query"],
        ["tag"],
    ):
        assert call([*words, "--warehouse", audited.warehouse]) == 0
    seen = capsys.readouterr()
    commands = proposed(seen.out + seen.err + str(failed.value))
    assert {words_of(command)[0] for command in commands} == {"query", "evaluate"}
    for part in ("comparison_words", "@misled", "@watched", "word_stats", "tokens > 3", "failures"):
        assert any(part in command for command in commands), part
    for command in commands:
        assert tried(command) == 0, (command, capsys.readouterr())


@pytest.mark.usefixtures("shell")
def test_commands_of_errors_and_of_the_doctor_run(
    audited: AuditConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(audited.warehouse, tmp_path / "it's damaged")
    (damaged / "calig.duckdb").write_bytes(b"no database")
    lacking = shutil.copytree(audited.warehouse, tmp_path / "lacking")
    (lacking / "calig.duckdb").unlink()
    run_id = list_runs(Warehouse.open(lacking))[0].run_id
    (lacking / "runs" / run_id / "comparisons" / "gone").mkdir(parents=True)
    (lacking / "tags").mkdir(exist_ok=True)
    (lacking / "tags" / "old").write_text("gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, place in (
        (["query", "SELECT 1"], damaged),
        (["query", "SELECT 1"], lacking),
        (["query", "SELECT 1"], empty),
        (["runs"], tmp_path / "nothing"),
        (["history"], empty),
        (["plan", "--run", run_id], lacking),
        (["report", "nobody"], lacking),
        (["history", "nonsense"], Path(audited.warehouse)),
    ):
        assert call([*words, "--warehouse", str(place)]) == 2, words
    assert call(["doctor", "--warehouse", str(lacking)]) == 1
    assert call(["doctor", "--warehouse", str(damaged)]) == 1
    seen = capsys.readouterr()
    commands = proposed(seen.out + seen.err)
    assert {words_of(command)[0] for command in commands} >= {"rebuild", "doctor", "audit", "plan", "history"}
    for command in sorted(commands):
        assert tried(command) == 0 or words_of(command)[0] == "doctor", (command, capsys.readouterr())
    assert call(["doctor", "--warehouse", str(lacking)]) == 0, capsys.readouterr()


def test_the_configuration_on_the_page_is_the_run_s(audited: AuditConfig, tmp_path: Path) -> None:
    [page, *_] = sorted(Path(audited.warehouse).glob("runs/*/report/index.html"), reverse=True)
    copied = re.findall(r"<pre tabindex=\"0\"><code>(name: .*?)</code>", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "audit.yaml").write_text(html.unescape(copied[0]), encoding="utf-8")
    again = load_config(tmp_path / "audit.yaml", [], audited.warehouse)
    assert yaml.safe_load(html.unescape(copied[0]))["name"] == "tiny"
    assert again.corpus == audited.corpus
    assert again.method == audited.method
    assert again.gates == audited.gates
