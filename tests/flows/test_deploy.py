"""What `calig deploy` refuses, each in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from tests.material.tiny import audit_config


def _deploy(tmp_path: Path, cron: str = "0 2 * * *", **options: Any) -> None:
    from flows.deploy import deploy

    deploy(audit_config(tmp_path / "model", tmp_path / "corpus.parquet", tmp_path / "w"), cron, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cron": "0 2 * *"}, "--cron: '0 2 * *' is no cron line: minute, hour, "),
        ({"cron": "61 2 * * *"}, "--cron: '61 2 * * *' is no cron line"),
        ({"timezone": "Berlin"}, "--timezone: 'Berlin' is no time zone; write it as Europe/Berlin"),
    ],
)
def test_a_schedule_that_is_none(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _deploy(tmp_path, **options)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_named_or_does_not_answer(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(InputError, match=r"PREFECT_API_URL names none: start one \(prefect server start\)"),
    ):
        _deploy(tmp_path)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(InputError, match=r"http://127.0.0.1:9/api does not answer \(.*\): start one"),
    ):
        _deploy(tmp_path)


@pytest.mark.usefixtures("prefect_server")
def test_a_block_that_is_not_there_or_cannot_notify(tmp_path: Path) -> None:
    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client

    Webhook(url="http://127.0.0.1:9").save("plain", overwrite=True)
    for block, says in (
        ("slack", "--notify: 'slack' is no block; write it as prefect block ls does: slack-webhook/ops"),
        ("slack-webhook/none", "--notify: there is no block slack-webhook/none; make it "),
        ("webhook/plain", "--notify: webhook/plain cannot notify; take a slack-webhook, "),
    ):
        with pytest.raises(InputError) as caught:
            _deploy(tmp_path, notify=[block])
        assert str(caught.value).startswith(says)
    with get_client(sync_client=True) as client:
        assert client.read_deployments() == [], "nothing is deployed by halves"
