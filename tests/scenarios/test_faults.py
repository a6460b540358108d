"""What goes wrong at night: disks, clocks, models and texts. Nothing is lost, and one line says what to do."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from calig import Explainer, stages
from calig.errors import DocumentError, GateError, InputError
from calig.gates import enforce
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, resolve_run
from tests.material.fuzz import examples
from tests.material.nights import audit_night
from tests.material.tiers import extended
from tests.material.tiny import (
    MAX_TOKENS,
    assert_same_tables,
    audit_config,
    make_rows,
    save_model,
    shard_times,
    write_parquet,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(48, seed=2))
    config = audit_config(tiny_model, corpus, small_disk / "w")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (12 * 2**20 - 165_000))
    with pytest.raises(OSError, match="No space left") as caught:
        audit_night(config)
    assert caught.value.errno == errno.ENOSPC
    before = shard_times(small_disk / "w")
    filler.unlink()
    run_id, _ = audit_night(config)
    after = shard_times(small_disk / "w")
    assert {name: after[name] for name in before} == before
    undisturbed, _ = audit_night(audit_config(tiny_model, corpus, tmp_path / "w"))
    assert_same_tables(small_disk / "w", run_id, tmp_path / "w", undisturbed, 1e-5)


def test_a_disk_that_fills_up_while_the_tables_are_made(
    small_disk: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    """The tables of before stay as they are, and can be asked."""
    _remount(small_disk, "size=20m")
    config = audit_config(tiny_model, tiny_corpus, small_disk / "w")
    first, _ = audit_night(config)
    used = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (20 * 2**20 - used - 600_000))
    with pytest.raises(OSError, match="No space left"):
        audit_night(config)
    assert query(Warehouse.open(small_disk / "w"), "SELECT count(*) FROM documents", first).rows == [(24,)]
    filler.unlink()
    run_id, _ = audit_night(config)
    assert_same_tables(small_disk / "w", run_id, small_disk / "w", first)


def test_a_disk_that_cannot_be_written_is_named(
    small_disk: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    config = audit_config(tiny_model, tiny_corpus, small_disk / "w")
    (small_disk / "w").mkdir()
    _remount(small_disk, "ro")
    with pytest.raises(
        InputError, match=r"it cannot be written \(Read-only file system\); name another folder"
    ):
        stages.precheck(Warehouse.open(config.warehouse), config)
    _remount(small_disk, "rw")


def test_a_clock_that_goes_backwards(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = audit_config(tiny_model, tiny_corpus, tmp_path / "w")
    first, _ = audit_night(config)

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2001, 1, 1, tzinfo=tz or UTC)

    monkeypatch.setattr(stages, "datetime", Yesterday)
    second, _ = audit_night(config)
    warehouse = Warehouse.open(tmp_path / "w")
    assert [run.run_id for run in list_runs(warehouse)] == [first, second]
    assert (resolve_run(warehouse, "latest"), resolve_run(warehouse, "previous")) == (second, first)


def _changed(model: Path, folder: Path, change: Any) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _constant(tensors: dict[str, Any]) -> None:
    tensors["classifier.weight"].zero_()


def _infinite(tensors: dict[str, Any]) -> None:
    tensors["classifier.bias"].fill_(float("inf"))


def test_a_model_whose_answer_never_changes(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    """All attributions are 0, which is right; nothing is divided by it."""
    model = _changed(tiny_model, tmp_path / "constant", _constant)
    config = audit_config(model, tiny_corpus, tmp_path / "w")
    run_id, _ = audit_night(config)
    warehouse = Warehouse.open(tmp_path / "w")
    sql = "SELECT max(abs(ig_00)), max(abs(score)), count(*) FILTER (isnan(score)) FROM tokens"
    assert query(warehouse, sql, run_id).rows == [(0, 0, 0)]
    assert query(warehouse, "SELECT failures, converged_share FROM runs").rows == [(0, 1)]


def test_a_model_of_infinities_fails_every_document_and_the_gate(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    model = _changed(tiny_model, tmp_path / "infinite", _infinite)
    config = audit_config(model, tiny_corpus, tmp_path / "w")
    run_id, outcomes = audit_night(config)
    assert query(Warehouse.open(tmp_path / "w"), "SELECT DISTINCT reason FROM failures", run_id).rows == [
        ("non-finite",)
    ]

    with pytest.raises(GateError, match="24 of 24 documents failed"):
        enforce(run_id, outcomes)


def test_labels_that_are_no_classes_are_counted_and_their_documents_explained(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [row | {"label": "great" if n % 2 else "negative"} for n, row in enumerate(make_rows(6))]
    config = audit_config(tiny_model, write_parquet(tmp_path / "c.parquet", rows), tmp_path / "w")
    run_id, _ = audit_night(config)
    warehouse = Warehouse.open(tmp_path / "w")
    [(notes, failures)] = query(warehouse, "SELECT notes, failures FROM runs").rows
    assert failures == 0
    [note] = notes
    assert note.startswith(
        "3 documents have in column 'label' what is not a class of the model (negative, positive)"
    )
    assert "'great' (3); first in" in note
    labels = query(warehouse, "SELECT label, target IS NOT NULL FROM documents ORDER BY doc_id", run_id).rows
    assert labels == [("negative", True), (None, True)] * 3


ODD = {
    "one": "film",
    "right to left": "the film \u05d4\u05e1\u05e8\u05d8 \u0627\u0644\u0641\u064a\u0644\u0645 good",
    "combining": "a cafe\u0301 n\u0303o good film",
    "emoji": "good \U0001f469\u200d\U0001f469\u200d\U0001f467 film \U0001f1e9\U0001f1ea\U0001f44d\U0001f3fd bad",
    "nul": "good\x00film",
    "escape": "\x1b[31mgood\x1b[0m film </script><b onload=x>",
    "long": "good bad film " * 350_000,
}


@pytest.fixture(scope="module")
def odd(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, str]:
    root = tmp_path_factory.mktemp("odd")
    rows = [{"id": name, "text": text, "label": 0} for name, text in ODD.items()]
    rows += [{"id": "one", "text": "bad", "label": 1}]
    config = audit_config(tiny_model, write_parquet(root / "c.parquet", rows), root / "w")
    run_id, _ = audit_night(config)
    return Warehouse.open(root / "w"), run_id


def test_odd_texts_are_explained_where_they_are_written(odd: tuple[Warehouse, str]) -> None:
    found = query(
        odd[0], "SELECT source_id, text, truncated, tokens, failure FROM documents ORDER BY doc_id", odd[1]
    ).rows
    assert [row[0] for row in found] == [*ODD, "one"], "an id that is there twice is two documents"
    for name, text, truncated, tokens, failure in found[:-1]:
        assert text == ODD[name]
        assert failure is None
        assert truncated == (name == "long")
        assert 3 <= tokens <= MAX_TOKENS
    words = query(
        odd[0],
        "SELECT w.text, d.text[w.char_start + 1:w.char_end], unicode(d.text) IS NOT NULL FROM words w "
        "JOIN documents d USING (doc_id)",
        odd[1],
    ).rows
    assert len(words) > 20


def test_nothing_in_a_text_gets_into_the_page_or_the_terminal(odd: tuple[Warehouse, str]) -> None:
    page = (odd[0].run(odd[1]) / "report" / "index.html").read_text()
    assert "\x1b" not in page
    assert "<b onload" not in page
    assert page.count("</script>") == page.count("<script")
    done = subprocess.run(
        [sys.executable, "-m", "calig", "query", "SELECT text FROM documents WHERE source_id = 'escape'",
         "--warehouse", str(odd[0].root)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "good" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.fixture(scope="module")
def explainer(tiny_model: Path) -> Explainer:
    return Explainer.from_pretrained(tiny_model, tolerance=0.3)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip))
def test_words_are_where_they_are_written(explainer: Explainer, text: str) -> None:
    try:
        [found] = explainer.explain([text])
    except DocumentError:
        return
    content = ~found.is_special
    starts, ends = found.char_spans[content].T
    assert ((starts >= 0) & (starts <= ends) & (ends <= len(text))).all()
    assert (starts[1:] >= starts[:-1]).all()
    words = found.word_ids[content]
    assert not "".join(text[a:b] for a, b in zip(starts[words < 0], ends[words < 0], strict=True)).strip()
    words = words[words >= 0]
    assert (words[1:] - words[:-1] >= 0).all()
    joined = "".join(text[a:b] for a, b in zip(starts, ends, strict=True))
    assert set(joined) <= set(text)


@extended("whole audits of texts that hypothesis makes up")
@examples(5, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), min_size=3, max_size=12
    )
)
@example(texts=[text for name, text in ODD.items() if name != "long"])
def test_words_are_sums_of_tokens_and_do_not_overlap(
    texts: list[str], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of any texts: words lie in them one after the other, and what a word gets is what its tokens get."""
    root = tmp_path_factory.mktemp("words")
    rows = [{"id": str(number), "text": text, "label": 0} for number, text in enumerate(texts)]
    config = audit_config(tiny_model, write_parquet(root / "c.parquet", rows), root / "w")
    run_id, _ = audit_night(config, report=False)
    warehouse = Warehouse.open(root / "w")
    found = query(warehouse, "SELECT doc_id, failure FROM documents ORDER BY doc_id", run_id).rows
    assert [row[0] for row in found] == list(range(len(texts)))
    failures = query(warehouse, "SELECT count(*) FROM failures", run_id).rows[0][0]
    assert failures == sum(failure is not None for _, failure in found)
    sums = "SELECT doc_id, sum(score), sum(logit_effect) FROM {} GROUP BY ALL ORDER BY ALL"
    content = "(FROM tokens WHERE NOT is_special AND word_id >= 0)"
    words, tokens = (query(warehouse, sums.format(table), run_id).rows for table in ("words", content))
    assert [row[0] for row in words] == [row[0] for row in tokens]
    for word, token in zip(words, tokens, strict=True):
        assert word[1:] == pytest.approx(token[1:], rel=1e-5, abs=1e-6)
    before = (-1, 0)
    sql = "SELECT doc_id, char_start, char_end, text FROM words ORDER BY doc_id, word_id"
    for doc_id, start, end, text in query(warehouse, sql, run_id).rows:
        earliest = before[1] if doc_id == before[0] else 0
        assert earliest <= start <= end <= len(texts[doc_id])
        assert text == texts[doc_id][start:end].strip(" \t\r\n")
        before = (doc_id, end)


STARVED = """
import resource, sys
from calig.config import parse_config
import torch, json
from calig import Explainer
from pathlib import Path
model, budget = sys.argv[1], int(sys.argv[2])
explainer = Explainer.from_pretrained(model, tolerance=0.3, token_budget=budget)
texts = [f"good film {'bad ' * (n % 17)}" for n in range(600)]
explainer.explain(texts[:2])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 220 * 2**20,) * 2)
found = explainer.explain(texts)
print(json.dumps([float(a.scores.sum()) for a in found]))
"""


@extended("hundreds of documents in a process that is short of memory")
def test_memory_that_runs_out_costs_time_alone(tmp_path: Path) -> None:
    """A limit of the kernel's on the process, with a token budget far beyond it."""
    model = save_model(tmp_path / "model")
    asked = [sys.executable, "-c", STARVED, str(model), str(10**9)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    explainer = Explainer.from_pretrained(model, tolerance=0.3)
    wanted = explainer.explain([f"good film {'bad ' * (n % 17)}" for n in range(600)])
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(
        [float(a.scores.sum()) for a in wanted], abs=1e-3
    )
    assert "out of memory: going on" in done.stderr
