"""Configurations with `${VAR}` still in them, for a deployment; and what becomes of it where they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from calig.config import AuditConfig, Limit, expand_config, load_config, load_template
from calig.errors import InputError

TEXT = """
name: nightly-${SITE}
model: {id: "${MODELS}/sentiment"}
corpus: {path: "s3://${KEY}@reviews/*.parquet", limit: "${LIMIT:-7}"}
runtime: {dtype: "${DTYPE}"}
gates: {max_failure_share: "${SHARE}"}
watch: {names: ["${NAME}", plain]}
"""
VARIABLES = {
    "SITE": "berlin",
    "MODELS": "/m",
    "KEY": "secret",
    "DTYPE": "float64",
    "SHARE": "0.25",
    "NAME": "Anna",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "audit.yaml"
    path.write_text(TEXT)
    return path


def test_text_keeps_its_variables_and_numbers_choices_and_the_name_do_not(path: Path) -> None:
    template = load_template(path)
    assert template.model_dump(mode="json", exclude_unset=True) == {
        "name": "nightly-berlin",
        "model": {"id": "${MODELS}/sentiment"},
        "corpus": {"path": "s3://${KEY}@reviews/*.parquet", "limit": 7},
        "runtime": {"dtype": "float64"},
        "gates": {"max_failure_share": {"limit": 0.25}},
        "watch": {"names": ["${NAME}", "plain"]},
    }
    assert "secret" not in template.model_dump_json()


def test_expanded_where_it_runs_it_is_what_the_file_says_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = load_template(path)
    assert expand_config(template) == load_config(path)
    monkeypatch.setenv("KEY", "other")
    expanded = expand_config(AuditConfig.model_validate_json(template.model_dump_json(exclude_unset=True)))
    assert expanded.corpus.path == "s3://other@reviews/*.parquet"
    assert expanded.watch == {"names": ("Anna", "plain")}
    assert expanded.gates.max_failure_share == Limit(limit=0.25)
    assert expand_config(expanded) is expanded
    monkeypatch.delenv("KEY")
    with pytest.raises(InputError, match=r"^corpus.path uses \$\{KEY\}, which is not set: export KEY=…$"):
        expand_config(template)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("corpus.path=${NOT_THERE}", r"corpus.path uses \$\{NOT_THERE\}, which is not set"),
        ("corpus.limit=${NAME}", "corpus.limit is 'Anna', but should be a valid integer"),
        ("model.di=x", "model.di is not a known field"),
        ("model.id=${broken", "write \\$\\{NAME\\}"),
    ],
)
def test_what_is_wrong_is_said_before_it_is_deployed(override: str, says: str, path: Path) -> None:
    with pytest.raises(InputError, match=says):
        load_template(path, [override])
