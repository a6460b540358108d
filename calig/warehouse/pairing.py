"""Two runs side by side in DuckDB, for their comparison: documents, layer profiles, and words once per document.

Side a is the reference, side b the run. Documents of one content are pairs; those whose content changed, but not the id
that the corpus gives them, are pairs of their own. Where both runs hold the same documents the tests are of pairs,
and what b explains of a document is a's class: other explanations are replaced, or the pair is left out. In any other
mixture the tests are of two samples, each document with the class that its own run explains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from string import Template
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calig.bootstrap import Doubles
from calig.comparison.layers import MEASURES, SUMS
from calig.comparison.permutation import Counts
from calig.corpus.manifest import MANIFEST, CorpusManifest
from calig.corpus.reading import holds_labels
from calig.warehouse.aggregate import profile
from calig.warehouse.catalog import quote, read_sql
from calig.warehouse.database import attach, create_tables
from calig.warehouse.layout import Warehouse
from calig.warehouse.views import RunFiles, create_views
from calig.warehouse.words import with_rule_of

Columns = dict[str, Any]
_KEY = "doc_key"


class Pairing:
    """Two runs on a connection of their own; `pairing` makes one.

    Parameters
    ----------
    connection
        Has the tables <side>_documents, <side>_items and <side>_depths of sides a and b.
    paired
        Whether both hold the same documents, so that the tests are of pairs.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, paired: bool) -> None:
        self.connection, self.paired = connection, paired
        self._pair()

    def _pair(self) -> None:
        self.connection.execute(read_sql("comparison/pairs.sql"))

    def flips(self) -> list[tuple[int, str]]:
        """Paired documents of which b explains another class: row number in b's corpus, and name of a's class."""
        return self.connection.execute(
            "SELECT b_id, class FROM pairs WHERE NOT comparable ORDER BY b_id"
        ).fetchall()

    def replace(self, again: RunFiles) -> int:
        """Let explanations of b's documents for a's class take the place of b's own; return how many there are."""
        with duckdb.connect() as other:
            create_tables(other)
            profile(other, again)
            _take_side(other, "again", again, given="false", content="doc_key")
            tables = {
                name: other.sql(f"FROM again_{name}").to_arrow_table()
                for name in ("documents", "items", "depths")
            }
        for name, table in tables.items():
            self.connection.register(f"again_{name}", table)
        self.connection.execute(read_sql("comparison/replace.sql"))
        self._pair()
        return int(tables["documents"].num_rows)

    def settle(self) -> None:
        """Lay out the words for what follows, when all replacements are made."""
        if self.paired:
            either = "SELECT {} AS side, {}_id AS doc_id, class, pair FROM pairs WHERE comparable AND exact"
        else:
            either = (
                "SELECT {0} AS side, d.doc_id, d.target AS class, p.pair FROM {1}_documents AS d "
                "LEFT JOIN pairs AS p ON p.{1}_id = d.doc_id AND p.comparable AND p.exact WHERE d.in_statistics"
            )
        placed = " UNION ALL ".join(either.format(number, side) for number, side in enumerate("ab"))
        self.connection.execute(Template(read_sql("comparison/effects.sql")).substitute(placed=placed))

    def left_out(self) -> int:
        """Pairs of one content whose explanations cannot be compared, being of two classes."""
        return len(self.flips())

    def inexact(self) -> int:
        """Documents, or pairs, that are left out of words and layers, being outside the tolerance."""
        if self.paired:
            return self._number("SELECT count(*) FROM pairs WHERE NOT exact")
        sides = " UNION ALL ".join(f"SELECT in_statistics FROM {side}_documents" for side in "ab")
        return self._number(f"SELECT count(*) FROM ({sides}) WHERE NOT in_statistics")

    def count(self, side: str) -> int:
        """Explained documents of a side."""
        return self._number(f"SELECT count(*) FROM {side}_documents")

    def accuracy(self, side: str) -> float | None:
        """Share of a side's labelled documents that are predicted right; None without labels."""
        [(share,)] = self.connection.execute(f"SELECT avg(correct) FROM {side}_documents").fetchall()
        found: float | None = share
        return found

    def shared(self) -> int:
        """Pairs of one content."""
        return self._number("SELECT count(*) FROM pairs")

    def text_changed(self) -> int:
        """Pairs of one id and two contents."""
        return self._number("SELECT count(*) FROM edited")

    def documents(self, side: str) -> Columns:
        """Columns of a side's explained documents, as `calig.comparison.outcomes` takes them; paired, pair by pair.

        What is explained of a pair that cannot be compared is null.
        """
        rows = f"SELECT * FROM {side}_documents ORDER BY doc_id"
        if self.paired:
            rows = f"""
                SELECT d.* REPLACE (
                    p.class AS target,
                    CASE WHEN p.comparable THEN d.probability END AS probability,
                    CASE WHEN p.comparable THEN d.logit END AS logit,
                    CASE WHEN p.comparable THEN d.settling_depth END AS settling_depth
                )
                FROM pairs AS p JOIN {side}_documents AS d ON d.doc_id = p.{side}_id ORDER BY p.pair
            """
        return columns(self.connection.sql(rows).to_arrow_table())

    def depths(self, side: str, depths: int) -> tuple[Doubles, Any]:
        """Return (n, L+1, 6) measures of a side's documents, and (n,) their classes; paired, pair by pair.

        `depths` is L+1.
        """
        return self._by_depth(side, MEASURES, depths)

    def sums(self, side: str, depths: int) -> Doubles:
        """Return (n, L+1, 2) the parts of cancellation, of the documents that `depths` returns."""
        return self._by_depth(side, SUMS, depths)[0]

    def _by_depth(self, side: str, names: Sequence[str], depths: int) -> tuple[Doubles, Any]:
        """Return (n, L+1, k) columns of a side's documents at each depth, and (n,) their classes."""
        documents = f"""
            SELECT doc_id, target AS class, row_number() OVER (ORDER BY doc_id) - 1 AS place
            FROM {side}_documents WHERE in_statistics
        """
        if self.paired:
            documents = f"""
                SELECT {side}_id AS doc_id, class, row_number() OVER (ORDER BY pair) - 1 AS place
                FROM pairs WHERE comparable AND exact
            """
        classes = columns(
            self.connection.sql(f"SELECT class FROM ({documents}) ORDER BY place").to_arrow_table()
        )
        found = self.connection.sql(
            f"SELECT place, depth, {', '.join(names)} FROM ({documents}) JOIN {side}_depths USING (doc_id)"
        ).to_arrow_table()
        place = tuple(found[name].to_numpy() for name in ("place", "depth"))
        values = np.full((len(classes["class"]), depths, len(names)), np.nan)
        for number, column in enumerate(names):
            values[(*place, number)] = found[column].to_numpy()
        return values, classes["class"]

    def words(self, documents: int) -> Columns:
        """Columns of the words that so many documents of a side hold, as `calig.comparison.words` takes them."""
        sql = Template(read_sql("comparison/words.sql")).substitute(documents=documents)
        return columns(self.connection.sql(sql).to_arrow_table())

    def number_of_words(self) -> int:
        """Words of both sides' documents, in however few they are."""
        return self._number("SELECT count(DISTINCT word) FROM effects")

    def values(self, words: Columns, rows: Counts) -> tuple[Doubles, Any, Counts]:
        """Effects, or paired their changes, of some of the words, as `calig.comparison.words` asks for them."""
        wanted = {name: pa.array(words[name][rows], pa.string()) for name in ("class", "word")}
        self.connection.register("wanted", pa.table({"number": np.arange(len(rows)), **wanted}))
        own, side = ("change", "1") if self.paired else ("effect", "side")
        found = self.connection.execute(
            f"SELECT number, {side} AS side, {own} AS value FROM {own}s JOIN wanted USING (class, word) "
            "ORDER BY number, side, value"
        ).fetchnumpy()
        starts = np.searchsorted(found["number"], np.arange(len(rows)))
        return found["value"].astype(np.float64), found["side"] == 1, starts

    def pairs(self) -> Columns:
        """Columns of the table `comparison_documents`, but for the ids."""
        return columns(self.connection.sql(read_sql("comparison/documents.sql")).to_arrow_table())

    def _number(self, sql: str) -> int:
        [(number,)] = self.connection.execute(sql).fetchall()
        return int(number)


@contextmanager
def pairing(warehouse: Warehouse, a: RunFiles, b: RunFiles, memory: str = "4GB") -> Iterator[Pairing]:
    """Read two aggregated runs; beyond `memory`, DuckDB spills into a temporary folder.

    Raises
    ------
    InputError
        If the aggregates are missing or damaged.
    """
    with (
        tempfile.TemporaryDirectory(prefix="calig-compare-") as spill,
        duckdb.connect(config={"memory_limit": memory, "temp_directory": spill}) as connection,
    ):
        attach(connection, warehouse.database)
        content = _content(a, b)
        held = []
        for side, run in (("a", with_rule_of(warehouse, a, b.manifest)), ("b", b)):
            create_views(connection, [run])
            _take_side(connection, side, run, _given(warehouse, run), content)
            held.append(_keys(run) if content == _KEY else _contents(connection, content))
        yield Pairing(connection, paired=held[0] == held[1])


def columns(table: pa.Table) -> Columns:
    """A table as numpy columns: numbers and booleans with NaN for null as float64, all else as objects with None."""
    found: Columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            found[name] = column.to_numpy().astype(np.float64)
        elif pa.types.is_integer(column.type) and not column.null_count:
            found[name] = column.to_numpy()
        else:
            values = np.empty(len(column), dtype=object)
            values[:] = column.to_pylist()
            found[name] = values
    return found


def _take_side(
    connection: duckdb.DuckDBPyConnection, side: str, run: RunFiles, given: str, content: str
) -> None:
    """Read what is compared of one run, whose views the connection has, into temporary tables.

    `given` and `content` are expressions in SQL: whether a document's id is the corpus's own, and what it holds.
    """
    values = {
        "side": side,
        "run_id": quote(run.manifest.run_id),
        "head": quote(run.manifest.head),
        "given": given,
        "content": content,
    }
    for step in ("side_documents", "side_depths", f"side_items_{run.manifest.modality}"):
        connection.execute(Template(read_sql(f"comparison/{step}.sql")).substitute(values))


def _keys(run: RunFiles) -> Sequence[str]:
    """The keys of all of a run's documents, in order."""
    return sorted(pq.read_table(run.documents, columns=["doc_key"])["doc_key"].to_pylist())


def _contents(connection: duckdb.DuckDBPyConnection, content: str) -> Sequence[str]:
    """What all documents hold, of the run whose views the connection has, in order."""
    return [row[0] for row in connection.execute(f"SELECT {content} FROM documents ORDER BY ALL").fetchall()]


def _given(warehouse: Warehouse, run: RunFiles) -> str:
    """Whether a document's id was given with the corpus, as a condition in SQL.

    Where the corpus has no `id`, ids are row numbers, which say nothing of what a document is; so they are of single
    documents whose own is empty.
    """
    corpus = run.manifest.config.get("corpus")
    if not isinstance(corpus, dict) or corpus.get("id") is None:
        return "false"
    try:
        manifest = warehouse.corpus(run.manifest.corpus["key"]) / MANIFEST
        all_given = CorpusManifest.from_json(manifest.read_text("utf-8")).without_id == 0
    except (OSError, ValueError, TypeError):
        all_given = False
    return "true" if all_given else "NOT regexp_full_match(source_id, '0|[1-9][0-9]*')"


def _content(a: RunFiles, b: RunFiles) -> str:
    """What is the same of two documents that hold the same, as an expression in SQL.

    Up to 0.1.0 the keys of an audit that explains labels cover these: of texts, what they hold is then taken from the
    corpora.
    """
    if b.manifest.modality == "text" and (labels_in_keys(a) or labels_in_keys(b)):
        return "md5(concat(length(text), ':', text, text_pair))"
    return _KEY


def labels_in_keys(run: RunFiles) -> bool:
    """Whether the keys of a run's documents cover their labels."""
    method = run.manifest.config.get("method")
    if not isinstance(method, dict) or method.get("target") != "label":
        return False
    found = holds_labels(run.corpus, run.manifest.modality)
    return run.manifest.format < 2 if found is None else found
