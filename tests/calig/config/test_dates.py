"""Dates in the names of a corpus: the placeholders, the time zone, and what a run's date is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from calig import corpus as corpora
from calig.config import AuditConfig, CorpusConfig, load_config, parse_config
from calig.config.dates import expand, is_dated
from calig.errors import InputError

TODAY = date(2026, 3, 1)


def _config(**sections: Any) -> AuditConfig:
    return parse_config({"model": {"id": "m"}, "corpus": {"path": "x"}, **sections})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("data/reviews.parquet", "data/reviews.parquet"),
        ("a/dt={{ yesterday }}/*.parquet", "a/dt=2026-02-28/*.parquet"),
        ("{{today}}-{{ yesterday }}", "2026-03-01-2026-02-28"),
        ("{{ today - 7d }}", "2026-02-22"),
        ("{{ today+1d }}", "2026-03-02"),
        ("{{ yesterday - 1d }}", "2026-02-27"),
        ("{{ yesterday:%Y/%m/%d }}.csv", "2026/02/28.csv"),
        ("{{ today - 60d: %y%j }}", "25365"),
        ("{{ today:week-%G-%V-%u }}", "week-2026-09-7"),
        ("{{ today:100%% }}", "100%"),
    ],
)
def test_placeholders_are_filled_in(text: str, filled: str) -> None:
    assert expand(text, TODAY) == filled
    assert is_dated(text) == (text != filled)


@pytest.mark.parametrize(
    "text",
    [
        "{{ tomorrow }}",
        "{{ today",
        "today }}",
        "{{ today - 7 }}",
        "{{ today - 99999d }}",
        "{{ today:%H }}",
        "{{ today:% }}",
        "{{}}",
        "{{ today: }}",
    ],
)
def test_a_wrong_placeholder_gets_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        _config(corpus={"path": f"data/{text}/x.csv"})
    assert str(caught.value).startswith(f"corpus.path is 'data/{text}/x.csv', but ")
    assert (
        "is no date: write {{ today }}, {{ yesterday }}, {{ today - 7d }} or {{ yesterday:%Y/%m/%d }}"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_every_name_of_a_corpus_may_be_dated() -> None:
    given = {
        "dataset": "me/{{ today }}",
        "config": "{{ yesterday }}",
        "revision": "v{{ today }}",
        "split": "d{{ today:%d }}",
    }
    corpus = CorpusConfig(**given).on(TODAY)
    assert (corpus.dataset, corpus.config) == ("me/2026-03-01", "2026-02-28")
    assert (corpus.revision, corpus.split) == ("v2026-03-01", "d01")
    assert CorpusConfig(**given).is_dated
    assert not corpus.is_dated


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", 24),
        ("Europe/Berlin", 25),
        ("America/New_York", 24),
        ("Pacific/Kiritimati", 25),
        ("Pacific/Pago_Pago", 24),
    ],
)
def test_the_day_is_that_of_the_time_zone(zone: str, day: int) -> None:
    """Half past eleven at night in Greenwich."""
    config = _config(corpus={"path": "{{ today }}", "timezone": zone})
    started = config.started(datetime(2026, 11, 24, 23, 30, tzinfo=UTC))
    assert started.date == date(2026, 11, day)
    assert started.dated_corpus.path == f"2026-11-{day}"
    assert started.corpus.path == "{{ today }}", "the pattern stays"
    assert AuditConfig.model_validate(started.model_dump(mode="json")) == started


def test_a_given_date_stands_and_an_undated_corpus_has_none() -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    assert (
        _config(date="2026-01-02", corpus={"path": "{{ yesterday }}"}).started(moment).dated_corpus.path
        == "2026-01-01"
    )
    assert _config().started(moment).date is None


@pytest.mark.parametrize("value", ["24.11.2026", 20261124, True, "2026-11-24T02:00:00", "0001-01-01"])
def test_a_wrong_date_gets_one_line(value: object) -> None:
    with pytest.raises(InputError, match=r"date is .*, but should be a date such as 2026-11-24"):
        _config(date=value)


def test_a_wrong_time_zone_gets_one_line() -> None:
    for zone in ("Berlin", "../etc", "Europe"):
        with pytest.raises(InputError, match=r"corpus.timezone is .* should be a time zone's IANA name"):
            _config(corpus={"path": "x", "timezone": zone})


def test_yaml_holds_the_pattern_and_an_override_the_date(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text("model: {id: m}\ncorpus:\n  path: data/dt={{ yesterday }}/*.parquet\n")
    config = load_config(path, ["date=2026-11-24"])
    assert config.corpus.path == "data/dt={{ yesterday }}/*.parquet"
    assert config.dated_corpus.path == "data/dt=2026-11-23/*.parquet"
    assert parse_config({**config.model_dump(mode="json")}) == config


def test_no_files_of_that_date_names_the_pattern_filled_in(tmp_path: Path) -> None:
    for pattern, says in (
        ("dt={{ yesterday }}/*.csv", "matches no file"),
        ("{{ today }}.csv", "no such file"),
    ):
        config = _config(date="2026-11-24", corpus={"path": f"{tmp_path}/{pattern}"})
        with pytest.raises(InputError, match=says) as caught:
            corpora.fingerprint(config.dated_corpus)
        assert str(config.dated_corpus.path) in str(caught.value)
        assert "2026-11-2" in str(caught.value)


def test_the_form_and_the_schema_have_a_date() -> None:
    schema = AuditConfig.model_json_schema()
    assert {"type": "string", "format": "date"} in schema["properties"]["date"]["anyOf"]
