"""The command line: exit codes, one line for every mistake, and what each command prints."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from calig import stages
from calig.cli import _absent_terms, _fail, _print_run, main
from calig.config import load_config
from calig.errors import InputError
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import (
    MAX_TOKENS,
    Audited,
    Row,
    assert_same_tables,
    audit_dict,
    run_manifest,
    save_model,
    select,
    write_csv,
    write_parquet,
)

ROOT = Path(__file__).parents[2]


class Answer:
    """What one call of the command line gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def line(self) -> str:
        """The one line of complaint, checked to be the only one besides what the audit says when it starts."""
        lines = [line for line in self.err.splitlines() if line != "starting Prefect …"]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("calig: ")
        return lines[0].removeprefix("calig: ")


Calig = Callable[..., Answer]


@pytest.fixture
def calig(capsys: pytest.CaptureFixture[str]) -> Calig:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Answer(stopped.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def write_audit(tmp_path: Path, tiny_model: Path, tiny_corpus: Path) -> Callable[..., Path]:
    """Write an audit's YAML; `sections` change single fields of the tiny audit."""

    def write(**sections: Any) -> Path:
        data = audit_dict(tiny_model, tiny_corpus, tmp_path / "w")
        for name, value in sections.items():
            data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value
        path = tmp_path / "audit.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def _environment(**changes: str) -> dict[str, str]:
    ours = ("CALIG_SHARED", "TQDM_DISABLE", "TRANSFORMERS_VERBOSITY")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_") and k not in ours}
    return {**inherited, **changes}


def _subprocess(
    *arguments: str | Path, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "calig", *map(str, arguments)],
        env=_environment(PYTHONPATH=str(ROOT), **environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


# Wrong input: exit code 2 and one line, before Prefect is started.


def test_no_such_model_folder(calig: Calig, write_audit: Callable[..., Path], tmp_path: Path) -> None:
    answer = calig("audit", write_audit(model={"id": str(tmp_path / "nowhere")}))
    assert answer.code == 2
    assert f"model.id: no model folder at {tmp_path / 'nowhere'}" in answer.line


def test_a_model_without_a_classification_head(
    calig: Calig, write_audit: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(tiny_model).save_pretrained(tmp_path / "headless")
    answer = calig("audit", write_audit(model={"id": str(tmp_path / "headless")}))
    assert answer.code == 2
    assert "BertModel without a classification head" in answer.line


def test_pickled_weights(
    calig: Calig, write_audit: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    answer = calig("audit", write_audit(model={"id": str(model)}))
    assert answer.code == 2
    assert "only pickle weights (pytorch_model.bin)" in answer.line


def test_an_unknown_field_names_the_nearest(calig: Calig, write_audit: Callable[..., Path]) -> None:
    answer = calig("audit", write_audit(runtime={"shard_documnets": 3}))
    assert answer.code == 2
    assert (
        "runtime.shard_documnets is not a known field: did you mean runtime.shard_documents?" in answer.line
    )


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("corpus.limit", "--set corpus.limit: write it as section.field=value"),
        ("=3", "--set =3: write it as"),
        ("corpus.limit=0", "corpus.limit is 0"),
        ("name.inner=3", "--set name.inner=3: name is a value, not a section"),
        ("corpus.limit=[", "--set corpus.limit=["),
    ],
)
def test_a_wrong_override(
    override: str, complaint: str, calig: Calig, write_audit: Callable[..., Path]
) -> None:
    answer = calig("audit", write_audit(), "--set", override)
    assert answer.code == 2
    assert complaint in answer.line


def test_a_warehouse_that_cannot_be_written(
    calig: Calig, write_audit: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    answer = calig("audit", write_audit(), "--warehouse", tmp_path / "file" / "w")
    assert answer.code == 2
    assert f"warehouse {tmp_path / 'file' / 'w'}" in answer.line


def test_tables_of_a_newer_version(calig: Calig, write_audit: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    with duckdb.connect(tmp_path / "w" / "calig.duckdb") as connection:
        connection.execute("CREATE TABLE written AS SELECT 99 AS format, '9.9.9' AS calig_version")
    answer = calig("audit", write_audit())
    assert answer.code == 2
    assert "calig 9.9.9 wrote it, in format 99" in answer.line
    assert "starting Prefect" not in answer.err


def test_an_error_lets_go_of_what_its_frames_hold() -> None:
    """A DuckDB connection that is alive at the interpreter's end has DuckDB say so in dozens of lines."""
    alive: list[weakref.ref[Connection]] = []

    class Connection:
        pass

    def work() -> None:
        connection = Connection()
        alive.append(weakref.ref(connection))
        raise InputError("no")

    def end() -> None:
        try:
            work()
        except InputError as error:
            _fail(str(error), 2)

    with pytest.raises(SystemExit) as stopped:
        end()
    assert stopped.value.code == 2
    assert alive[0]() is None


def test_no_such_configuration(calig: Calig, tmp_path: Path) -> None:
    answer = calig("audit", tmp_path / "none.yaml")
    assert answer.code == 2
    assert f"{tmp_path / 'none.yaml'}: no such file" in answer.line


def test_an_unset_variable(calig: Calig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIG_SHARED", raising=False)
    answer = calig("audit", ROOT / "infra" / "audits" / "sst2.yaml")
    assert answer.code == 2
    assert "${CALIG_SHARED}, which is not set" in answer.line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["adit"], "'adit'"),
        (["audit"], "config"),
        (["audit", "--colour"], "--colour"),
        (["query", "--format", "xml"], "--format"),
        (["explain", "--text", "a", "--model", "m", "--weight", "3"], "--weight"),
        (["explain", "--text", "a", "--model", "/m", "--tolerance", "3"], "--tolerance"),
        (["explain", "--text", "a", "--model", "/no/model"], "/no/model"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], complaint: str, calig: Calig) -> None:
    answer = calig(*arguments)
    assert answer.code == 2
    assert complaint in answer.line


def test_no_command_prints_the_help(calig: Calig) -> None:
    answer = calig()
    assert answer.code == 2
    assert answer.err == ""
    assert "audit" in answer.out


@pytest.mark.parametrize(
    "arguments", [["runs"], ["query", "SELECT 1"], ["query"], ["report"], ["rebuild"], ["compare", "a", "b"]]
)
def test_no_warehouse(arguments: list[str], calig: Calig, tmp_path: Path) -> None:
    answer = calig(*arguments, "--warehouse", tmp_path / "w")
    assert answer.code == 2
    assert f"no warehouse at {tmp_path / 'w'}" in answer.line
    assert not (tmp_path / "w").exists()


# Wrong input found inside the flow: the same.


@pytest.mark.usefixtures("prefect_server")
def test_a_missing_column_names_those_there(calig: Calig, write_audit: Callable[..., Path]) -> None:
    answer = calig("audit", write_audit(corpus={"text": "sentence"}))
    assert answer.code == 2
    assert "has no column 'sentence' for corpus.text; it has id, text, label, topic" in answer.line


@pytest.mark.usefixtures("prefect_server")
def test_an_empty_corpus(calig: Calig, write_audit: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,text,label\n")
    answer = calig("audit", write_audit(corpus={"path": str(tmp_path / "empty.csv")}))
    assert answer.code == 0
    assert "corpus: there are no documents: no file has a row" in answer.out


@pytest.mark.usefixtures("prefect_server")
def test_a_csv_that_is_not_utf_8(calig: Calig, write_audit: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("id,text,label\na,déjà vu,0\n".encode("latin-1"))
    answer = calig("audit", write_audit(corpus={"path": str(tmp_path / "latin.csv")}))
    assert answer.code == 2
    assert "latin.csv" in answer.line
    assert "UTF-8" in answer.line


@pytest.mark.usefixtures("prefect_server")
def test_target_label_without_labels(calig: Calig, write_audit: Callable[..., Path]) -> None:
    answer = calig("audit", write_audit(method={"target": "label"}, corpus={"label": None}))
    assert answer.code == 2
    assert "corpus.label" in answer.line


@pytest.mark.usefixtures("prefect_server")
def test_a_target_that_is_no_class(calig: Calig, write_audit: Callable[..., Path]) -> None:
    answer = calig("audit", write_audit(method={"target": "neutral"}))
    assert answer.code == 2
    assert "method.target: 'neutral' is not a class of the model" in answer.line
    assert "negative, positive" in answer.line


def test_a_value_of_another_type_in_a_process_of_its_own(
    write_audit: Callable[..., Path], tmp_path: Path, tiny_rows: list[Row], prefect_server: str
) -> None:
    """Prefect logs the failure with a traceback: into the warehouse's log, never to the terminal."""
    rows = [dict(row) for row in tiny_rows]
    corpus = write_csv(tmp_path / "corpus.csv", rows)
    config = write_audit(corpus={"path": str(corpus), "types": {"topic": "number"}})
    done = _subprocess(
        "audit", config, PREFECT_API_URL=prefect_server, PREFECT_HOME=str(tmp_path / "prefect")
    )
    answer = Answer(done.returncode, done.stdout, done.stderr)
    assert answer.code == 2
    assert f"{corpus}, row " in answer.line
    assert "column 'topic' is " in answer.line
    assert "which does not fit corpus.types: number" in answer.line
    assert answer.out == ""
    assert "Traceback" in (tmp_path / "w" / "calig.log").read_text()


@pytest.mark.usefixtures("prefect_server")
def test_a_second_writer_of_the_attributions_waits(
    calig: Calig, audited: Audited, tmp_path: Path, write_audit: Callable[..., Path]
) -> None:
    folder = shutil.copytree(audited.warehouse, tmp_path / "w")
    key = run_manifest(folder, audited.run_id)["attribution_key"]
    warehouse = Warehouse.open(folder)
    held = ExitStack()
    held.enter_context(warehouse.writer_lock(warehouse.attributions(key)))

    def let_go() -> None:
        while len(list_runs(warehouse)) == 1:
            time.sleep(0.05)
        time.sleep(0.5)  # by then it has asked for the lock
        held.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    answer = calig("audit", write_audit())
    thread.join()
    assert answer.code == 0
    assert select(folder, "SELECT count(*) FROM runs") == [(2,)]


@pytest.mark.usefixtures("prefect_server")
def test_a_second_writer_of_the_tables(
    calig: Calig,
    audited: Audited,
    tmp_path: Path,
    write_audit: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "LOCK_SECONDS", 0.1)
    folder = shutil.copytree(audited.warehouse, tmp_path / "w")
    with Warehouse.open(folder).writer_lock():
        answer = calig("audit", write_audit())
        rebuild = calig("rebuild", "--warehouse", folder)
    assert answer.code == rebuild.code == 2
    assert "another writer is at work (pid " in answer.line
    assert "another writer is at work (pid " in rebuild.line
    assert calig("query", "SELECT run_id FROM runs", "--warehouse", folder).code == 0


# Breakage: exit code 3, where the log is, how to go on.


@pytest.mark.usefixtures("prefect_server")
def test_a_breakage_says_where_the_log_is_and_how_to_go_on(
    calig: Calig, tmp_path: Path, write_audit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is on fire\nsecond line")

    config = write_audit(runtime={"retries": 0})
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "attribute_shard", broken)
        answer = calig("audit", config)
    assert answer.code == 3
    assert answer.line.startswith("OSError: the disk is on fire (details in ")
    assert str(tmp_path / "calig-error.log") in answer.line
    assert "the same command run again goes on from what is finished" in answer.line
    assert "Traceback" in (tmp_path / "calig-error.log").read_text()
    assert calig("audit", config).code == 0


# Audit.


@pytest.mark.usefixtures("prefect_server")
def test_an_audit_prints_numbers_report_and_the_next_question(
    calig: Calig, tmp_path: Path, write_audit: Callable[..., Path], tiny_rows: list[Row]
) -> None:
    answer = calig("audit", write_audit(), "--set", "corpus.limit=10", "--set", "name=nightly")
    assert answer.code == 0
    assert answer.err == "starting Prefect …\n"
    summary, gates, report, ask = answer.out.splitlines()
    assert "-nightly: 10 documents (10 explained now, 0 reused), accuracy 0." in summary
    assert "0 failures, 100.00% of (document, depth) pairs within tolerance" in summary
    assert gates == "gates:  all 2 gates hold"
    page = Path(report.removeprefix("report: file://"))
    assert page.is_file()
    assert page.is_relative_to(tmp_path / "w")
    sql = ask.split('"')[1]
    assert calig("query", sql, "--warehouse", tmp_path / "w").code == 0
    assert "Finished in state Completed()" in (tmp_path / "w" / "calig.log").read_text()


def test_terms_that_are_nowhere_are_said(
    write_audit: Callable[..., Path], tmp_path: Path, tiny_rows: list[Row]
) -> None:
    there = tiny_rows[0]["text"].split()[0]
    watch = {"ids": ["TT-4711"], "films": [there, "nowhere"], "all": [there]}
    config = load_config(write_audit(watch=watch, corpus={"limit": 8}))
    run = run_stages(config)
    said = list(_absent_terms(Warehouse.open(tmp_path / "w"), run.run_id, config))
    assert said == [
        "watch: films: only 1 of the 2 terms stands in any document; not there: 'nowhere'",
        "watch: ids: no term stands in any document; not there: 'TT-4711'",
    ]


@extended("an audit")
def test_that_all_documents_failed_is_said_with_why(
    write_audit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_csv(tmp_path / "empty.csv", [{"id": "a", "text": "", "label": 0, "topic": "x"}])
    config = load_config(write_audit(corpus={"path": str(corpus)}, gates={"max_failure_share": 1}))
    run = run_stages(config)
    _print_run(run.warehouse, config, run.run_id, 1.0)
    captured = capsys.readouterr()
    assert "no accuracy, since no document could be explained" in captured.out
    assert "no labels" not in captured.out
    assert "no document could be explained: empty (1): the text is empty" in captured.err


# Query.


def test_csv_reads_back(calig: Calig, audited: Audited) -> None:
    sql = "SELECT source_id, text, probability, label FROM documents ORDER BY doc_id"
    answer = calig("query", sql, "--format", "csv", "--warehouse", audited.warehouse)
    header, *rows = csv.reader(io.StringIO(answer.out))
    assert header == ["source_id", "text", "probability", "label"]
    assert [(a, b, float(c), d) for a, b, c, d in rows] == select(audited.warehouse, sql)


def test_csv_keeps_quotes_commas_and_line_breaks(calig: Calig, audited: Audited) -> None:
    sql = """SELECT 'a "b", c' || chr(10) || 'd' AS x, NULL AS y"""
    answer = calig("query", sql, "--format", "csv", "--warehouse", audited.warehouse)
    assert list(csv.reader(io.StringIO(answer.out))) == [["x", "y"], ['a "b", c\nd', ""]]


def test_json_reads_back(calig: Calig, audited: Audited) -> None:
    sql = "SELECT source_id, tokens, logits, truncated, 'é' AS accent FROM documents ORDER BY doc_id LIMIT 3"
    answer = calig("query", sql, "--format", "json", "--warehouse", audited.warehouse)
    rows = json.loads(answer.out)
    assert list(rows[0]) == ["source_id", "tokens", "logits", "truncated", "accent"]
    assert [tuple(row.values()) for row in rows] == select(audited.warehouse, sql)
    assert "é" in answer.out


def test_a_table_cannot_steer_the_terminal(calig: Calig, audited: Audited) -> None:
    sql = "SELECT chr(27) || '[31mred' || chr(7) || chr(10) || 'x' AS evil, '[bold]plain[/]' AS markup"
    answer = calig("query", sql, "--warehouse", audited.warehouse)
    assert answer.code == 0
    assert not {"\x1b", "\x07"} & set(answer.out)
    assert "[31mred" in answer.out
    assert "[bold]plain[/]" in answer.out
    assert len(answer.out.splitlines()) == 2


def test_a_column_name_cannot_steer_the_terminal(calig: Calig, audited: Audited) -> None:
    answer = calig("query", 'SELECT 1 AS "\x1b[31m[bold]name[/]"', "--warehouse", audited.warehouse)
    assert "\x1b" not in answer.out
    assert "[bold]name[/]" in answer.out


def test_a_wide_table_loses_nothing(calig: Calig, audited: Audited) -> None:
    answer = calig("query", "SELECT * FROM runs", "--warehouse", audited.warehouse)
    manifest = run_manifest(audited.warehouse, audited.run_id)
    for value in (audited.run_id, manifest["model"]["hash"], manifest["attribution_key"], "negative"):
        assert value in answer.out
    for column in ("corpus_source", "worst_completeness_error", "timings"):
        assert column in answer.out
    assert "…" not in answer.out


def test_a_narrow_table_is_a_table(calig: Calig, audited: Audited) -> None:
    answer = calig(
        "query", "SELECT 1 AS a, 0.123456::DOUBLE AS b, NULL AS c", "--warehouse", audited.warehouse
    )
    assert [line.split() for line in answer.out.splitlines()] == [["a", "b", "c"], ["1", "0.1235"]]


def test_without_sql_the_catalogue_is_listed(calig: Calig, audited: Audited) -> None:
    answer = calig("query", "--warehouse", audited.warehouse)
    assert answer.code == 0
    for name in ("word_stats (table)", "documents (view)", "logit_effect DOUBLE", "topic VARCHAR"):
        assert name in answer.out


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes into standard input, which is then a pipe that has ended."""

    def put(data: bytes) -> None:
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        monkeypatch.setattr(sys, "stdin", os.fdopen(reader, encoding="utf-8"))

    return put


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_sql_comes_from_standard_input(
    calig: Calig, audited: Audited, feed: Callable[[bytes], None], arguments: list[str]
) -> None:
    feed(b"\xef\xbb\xbf-- all\nSELECT\n  count(*) AS n\nFROM documents;\n")
    answer = calig("query", *arguments, "--format", "csv", "--warehouse", audited.warehouse)
    assert answer.out == f"n\n{select(audited.warehouse, 'SELECT count(*) FROM documents')[0][0]}\n"


def test_an_empty_pipe_asks_nothing(calig: Calig, audited: Audited, feed: Callable[[bytes], None]) -> None:
    feed(b"")
    assert "word_stats (table)" in calig("query", "--warehouse", audited.warehouse).out
    feed(b"")
    assert "0 statements" in calig("query", "-", "--warehouse", audited.warehouse).line
    feed(b"SELECT '\xe9'")
    assert "standard input is not UTF-8 at byte 9" in calig("query", "--warehouse", audited.warehouse).line


@pytest.mark.parametrize("sql", ["-- one\nSELECT 1 AS a", "--one\nSELECT 1 AS a", "/* one */ SELECT 1 AS a;"])
def test_sql_may_begin_with_a_comment(calig: Calig, audited: Audited, sql: str) -> None:
    answer = calig("query", "--format", "csv", "--warehouse", audited.warehouse, sql)
    assert (answer.code, answer.out) == (0, "a\n1\n")
    assert "No such option: --one" in calig("query", "--one", "--warehouse", audited.warehouse).line


def test_an_interrupted_query_promises_nothing(
    calig: Calig, audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only commands that keep what they finished go on from there."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calig.warehouse.query.query", interrupted)
    answer = calig("query", "SELECT 1", "--warehouse", audited.warehouse)
    assert (answer.code, answer.line) == (130, "stopped")


@extended("three processes")
def test_text_that_the_terminal_cannot_show_is_escaped_and_kept_in_files(audited: Audited) -> None:
    sql = "SELECT 'é日' AS x"
    for output, expected in (("table", "\\xe9\\u65e5"), ("json", '"é日"'), ("csv", "é日")):
        answer = _subprocess(
            *("query", sql, "--format", output, "--warehouse", audited.warehouse), PYTHONIOENCODING="ascii"
        )
        assert expected in answer.stdout, answer.stderr


def test_a_question_takes_a_column_and_says_what_it_needs(calig: Calig, audited: Audited) -> None:
    answer = calig(
        "query", "@by-category", "column=topic", "--format", "csv", "--warehouse", audited.warehouse
    )
    assert answer.out.startswith("run_id,topic,documents,")
    line = calig("query", "@by-category", "--warehouse", audited.warehouse).line
    assert "the documents have no column 'category'; of the corpus they have: topic" in line
    assert "calig query @by-category column=topic" in line
    answer = calig("query", "@methods", "--warehouse", audited.warehouse)
    assert re.search(
        r"what @methods needs: an evaluation, which `\S*calig evaluate CONFIG.yaml --warehouse ", answer.err
    )
    answer = calig("query", "@", "--warehouse", audited.warehouse)
    assert "@by-category: How does it go by a column of the corpus?; column=category: " in answer.out
    assert (
        "put the SQL in quotation marks"
        in calig("query", "SELECT", "1", "--warehouse", audited.warehouse).line
    )


def test_the_ddl_works_in_a_duckdb_of_its_own(calig: Calig, audited: Audited) -> None:
    answer = calig("query", "--ddl", "--warehouse", audited.warehouse)
    with duckdb.connect() as connection:
        connection.execute(answer.out)
        for view in ("tokens", "words", "documents", "relevance_long"):
            [(count,)] = connection.execute(f"SELECT count(*) FROM {view}").fetchall()
            assert [(count,)] == select(audited.warehouse, f"SELECT count(*) FROM {view}")
            assert count > 0


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nothing FROM runs", "nothing"),
        ("SELECT * FROM word_stat", "Did you mean"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DROP TABLE runs", "DROP"),
        ("COPY runs TO 'x.csv'", "COPY"),
        ("SELECT * FROM read_text('/etc/passwd')", "read_text"),
        ("", "0 statements"),
    ],
)
def test_bad_sql(sql: str, complaint: str, calig: Calig, audited: Audited) -> None:
    answer = calig("query", sql, "--warehouse", audited.warehouse)
    assert answer.code == 2
    assert complaint in answer.line


def test_an_unknown_run_lists_those_there(calig: Calig, audited: Audited) -> None:
    for arguments in (["query", "SELECT 1", "--run", "19990101"], ["report", "19990101"]):
        answer = calig(*arguments, "--warehouse", audited.warehouse)
        assert answer.code == 2
        assert "run 19990101: no such run" in answer.line
        assert audited.run_id in answer.line


@pytest.mark.usefixtures("prefect_server")
def test_run_chooses_what_the_views_show(
    calig: Calig, audited: Audited, tmp_path: Path, write_audit: Callable[..., Path]
) -> None:
    shutil.copytree(audited.warehouse, tmp_path / "w")
    assert calig("audit", write_audit(corpus={"limit": 5})).code == 0
    sql = "SELECT count(*), count(DISTINCT run_id) FROM documents"
    expected = {"latest": "5,1", "previous": "24,1", "all": "29,2", audited.run_id: "24,1"}
    for run, numbers in expected.items():
        answer = calig("query", sql, "--run", run, "--format", "csv", "--warehouse", tmp_path / "w")
        assert answer.out.splitlines()[1] == numbers, run


# The other commands.


def test_runs_are_listed(calig: Calig, audited: Audited) -> None:
    answer = calig("runs", "--warehouse", audited.warehouse)
    assert answer.code == 0
    header, row, *_ = (line.split() for line in answer.out.splitlines())
    counts = ["documents", "computed", "reused"]
    assert header == [
        "run",
        "status",
        "tags",
        "model",
        "corpus",
        *counts,
        "accuracy",
        "failed",
        "gates",
        "time",
    ]
    assert row[:2] == [audited.run_id, "complete"]
    assert row[4:7] == ["24", "24", "0"]


def test_report_writes_the_page_again(calig: Calig, audited: Audited, tmp_path: Path) -> None:
    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    page = warehouse / "runs" / audited.run_id / "report" / "index.html"
    page.unlink()
    answer = calig("report", audited.run_id[:10], "--warehouse", warehouse)
    assert answer.out.strip() == str(page)
    assert "<html" in page.read_text()


def test_rebuild_makes_the_same_tables(calig: Calig, audited: Audited, tmp_path: Path) -> None:
    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    (warehouse / "calig.duckdb").unlink()
    assert calig("query", "SELECT 1", "--warehouse", warehouse).code == 2
    answer = calig("rebuild", "--warehouse", warehouse)
    assert answer.out.strip() == "rebuilt the tables of 1 runs"
    assert_same_tables(warehouse, audited.run_id, audited.warehouse, audited.run_id)


def test_explain_shows_a_text_and_its_classes(calig: Calig, tiny_model: Path) -> None:
    answer = calig("explain", "--model", tiny_model, "--text", "the film was good", "--target", "positive")
    assert answer.code == 0, answer.err
    assert "positive" in answer.out
    assert "film" in answer.out


def test_explain_shows_both_texts_of_a_pair(calig: Calig, tiny_model: Path) -> None:
    answer = calig("explain", "--model", tiny_model, "--text", "the film", "--pair", "a dull cast")
    assert answer.code == 0, answer.err
    assert answer.out.index("first text") < answer.out.index("second text") < answer.out.index("dull")


def test_explain_reads_the_head_it_is_told(calig: Calig, tiny_model: Path) -> None:
    answer = calig("explain", "--model", tiny_model, "--text", "the film", "--head", "multi_label")
    assert answer.code == 0, answer.err
    assert answer.out.count("p = 0.") == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--text", ""], "empty"),
        (["--text", "", "--pair", " "], "both texts are empty"),
        (["--text", "a film", "--head", "ranking"], "model.head: 'ranking' is not one of single_label"),
        (
            ["--text", "a film", "--head", "regression"],
            "cannot be regression; use single_label or multi_label",
        ),
        (["--text", "a film", "--target", "neutral"], "'neutral' is not a class of the model"),
        (["--text", "a film", "--target", "7"], "7 is not a class of the model"),
        (["--text", "a film", "--baseline", "blank"], "blank"),
        (["--text", "a film", "--device", "abacus"], "'abacus' cannot be used here"),
    ],
)
def test_explain_wants_sense(arguments: list[str], complaint: str, calig: Calig, tiny_model: Path) -> None:
    answer = calig("explain", "--model", tiny_model, *arguments)
    assert answer.code == 2
    assert complaint in answer.line


def test_explain_marks_a_truncated_text(calig: Calig, tiny_model: Path) -> None:
    answer = calig("explain", "--model", tiny_model, "--text", "good film " * MAX_TOKENS)
    assert answer.code == 0
    assert "its end was not read" in answer.out


def test_a_text_that_gives_nan_is_one_line(calig: Calig, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", broken=True)
    answer = calig("explain", "--model", model, "--text", "a nan film")
    assert answer.code == 2
    assert "NaN" in answer.line


@extended("a pilot and an audit; tests of planning are in the first tier")
def test_a_plan_is_printed_and_then_the_run_beside_it(
    calig: Calig, write_audit: Callable[..., Path], tmp_path: Path
) -> None:
    config = write_audit()
    planned = calig("plan", config, "--workers", "3", "--documents", "1000000")
    assert planned.code == 0, planned.err
    assert planned.err.splitlines()[:2] == ["loading …", "loading the model …"], (
        "at once, without a terminal too"
    )
    assert planned.out.startswith("plan of tiny, made ")
    assert " 3 × cpu, 1 thread, " in planned.out
    lines = {line.split("  ")[0].strip(): line for line in planned.out.splitlines()}
    assert lines["documents"].split()[1] == "1,000,000"
    assert lines["shards"].split()[1] == "125,000"
    answer = calig("plan", config, "--format", "json")
    assert re.search(r"so just run it \(this plan's work is kept\): \S*calig audit ", answer.err)
    made = json.loads(answer.out)
    figures = {figure["name"]: figure for figure in made["figures"]}
    assert made["workers"] == 1

    run = run_stages(load_config(config))
    shown = calig("plan", "--run", "latest", "--warehouse", tmp_path / "w")
    assert shown.code == 0, shown.err
    header, documents = (shown.out.splitlines()[i] for i in (1, 2))
    assert header.split()[-6:] == ["actual", "actual", "/", "predicted", "based", "on"]
    left = f"{figures['documents']['value']:.0f}"
    assert documents.split()[:4] == ["documents", left, left, "1.00"]
    assert run_manifest(tmp_path / "w", run.run_id)["attributed"] == int(left)
    assert "all documents of the corpus are held" in calig("plan", config).err


def test_a_plan_wants_an_audit_or_a_run(
    calig: Calig, write_audit: Callable[..., Path], audited: Audited
) -> None:
    for arguments in ([], [write_audit(), "--run", "latest"]):
        answer = calig("plan", *arguments)
        assert answer.code == 2
        assert answer.line == "calig plan takes an audit's YAML, or --run, one of them"
    answer = calig("plan", "--run", "latest", "--warehouse", audited.warehouse)
    assert answer.code == 2
    place = f"--warehouse {audited.warehouse}`"
    said = rf"run {audited.run_id}: no plan was made before it; `\S*calig plan CONFIG.yaml {place}"
    assert re.match(said, answer.line)


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys\nfrom calig.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print(sorted({'torch', 'transformers', 'prefect', 'datasets', 'duckdb'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "audit" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_a_closed_pipe_is_no_error(audited: Audited) -> None:
    command = (
        f"{sys.executable} -m calig query 'SELECT * FROM tokens' --format csv --warehouse {audited.warehouse}"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("run_id,doc_id")


def test_python_m_calig_from_an_empty_folder(tmp_path: Path) -> None:
    done = _subprocess("runs", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_without_labels_has_no_accuracy(
    calig: Calig, tmp_path: Path, write_audit: Callable[..., Path], tiny_rows: list[Row], prefect_server: str
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", [{"text": row["text"]} for row in tiny_rows[:6]])
    answer = calig("audit", write_audit(corpus={"path": str(corpus), "label": None, "id": None}))
    assert answer.code == 0, answer.err
    assert "no labels" in answer.out
