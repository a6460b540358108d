"""What a command makes of the machine: streams, homes, proxies, and folders that hide calig's own packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from calig import environment
from calig.errors import InputError
from tests.material.tiers import extended

ROOT = Path(__file__).parents[2]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of what is tested stays in the environment."""
    with monkeypatch.context() as patched:
        for name in (*os.environ, "no_proxy", "PREFECT_PROFILES_PATH"):
            patched.setenv(name, os.environ.get(name, ""))
            if name.startswith("PREFECT_") or name.lower().endswith("_proxy"):
                patched.delenv(name)
        yield


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"HTTP_PROXY": "http://proxy:3128"}, "localhost,127.0.0.1,::1"),
        ({"all_proxy": "socks5://proxy", "NO_PROXY": "intranet, ::1"}, "intranet,::1,localhost,127.0.0.1"),
        (
            {"http_proxy": "http://proxy", "no_proxy": "a", "PREFECT_API_URL": "http://127.0.0.9:4200/api"},
            "a,localhost,127.0.0.1,::1,127.0.0.9",
        ),
        (
            {"http_proxy": "http://proxy", "PREFECT_API_URL": "http://prefect.example:4200/api"},
            "localhost,127.0.0.1,::1",
        ),
        ({"http_proxy": "http://proxy", "no_proxy": "*"}, "*"),
        ({}, None),
    ],
)
def test_loopback_never_goes_through_a_proxy(
    given: dict[str, str], result: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment.prepare()
    assert os.environ.get("no_proxy") == result
    if result != "*":
        assert os.environ.get("NO_PROXY") == result, "some programs read the one, others the other"


def test_a_user_without_a_home_gets_a_temporary_one(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        if "HOME" in os.environ:
            return Path(os.environ["HOME"])
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", nowhere)
    environment.prepare()
    assert os.environ["HOME"] == str(temporary / f"calig-{os.getuid()}")
    note = environment.prefect_home()
    assert note is not None
    assert "(this user has no home folder); set PREFECT_HOME" in note
    assert Path(os.environ["PREFECT_HOME"]).is_relative_to(temporary)


def test_a_temporary_folder_that_others_can_write_is_not_taken(temporary: Path) -> None:
    mine = environment.temporary_folder()
    assert mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o777)
    other = environment.temporary_folder()
    assert other != mine
    assert other.stat().st_mode & 0o777 == 0o700
    other.rmdir()
    mine.rmdir()
    mine.symlink_to(temporary)
    assert environment.temporary_folder() not in (mine, temporary)


def test_prefect_writes_elsewhere_where_the_home_cannot_be_written(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of the home stands for one of another user, which stops root too."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    note = environment.prefect_home()
    place = os.environ["PREFECT_HOME"]
    usual = tmp_path / "file" / "home" / ".prefect"
    assert note == (
        f"Prefect's files go to {place} ({usual} cannot be written: Not a directory); "
        "set PREFECT_HOME to keep them elsewhere"
    )
    assert Path(place).is_relative_to(temporary)
    assert environment.prefect_home() is None, "what was chosen counts from then on"
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path / "file"))
    assert environment.server_home() == Path(place)


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path / "cache"))
    assert environment.prefect_home() is None
    assert "PREFECT_HOME" not in os.environ
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.99.0")
    assert environment.server_home() == tmp_path / "cache" / "prefect-3.99.0"


def test_a_home_of_the_users_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "prefect"))
    with pytest.raises(
        InputError, match=r"PREFECT_HOME: .* cannot be written \(Not a directory\); set it to"
    ):
        environment.prefect_home()


def test_a_full_disk_is_not_called_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert environment.unwritable(tmp_path) is None


def test_a_reader_that_leaves_ends_nothing() -> None:
    reading, writing = os.pipe()
    output = environment._Output(writing, "wb")
    assert output.write(b"one") == 3
    os.close(reading)
    assert output.write(b"two") == 3
    assert output.write(memoryview(b"three")) == 5
    assert os.fstat(writing).st_rdev == Path(os.devnull).stat().st_rdev
    output.close()


def test_folders_called_flows_and_tasks_do_not_hide_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is the user\\'s')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flows", "tasks")]:
        monkeypatch.delitem(sys.modules, name)
    environment.use_own_packages()
    for name in ("flows", "tasks"):
        assert Path(str(sys.modules[name].__file__)) == ROOT / name / "__init__.py"
        monkeypatch.delitem(sys.modules, name)  # the session's own come back


def _command(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in a folder, where $CALIG is `python -m calig`."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env={**os.environ, "CALIG": f"{sys.executable} -m calig", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_standard_streams_that_are_closed(tmp_path: Path) -> None:
    done = _command("$CALIG runs --warehouse none <&- >&- 2>&-", tmp_path)
    assert done.returncode == 2, "the answer is there, although nobody hears it"
    assert list(tmp_path.iterdir()) == []


@extended("processes for what the first tier tries within its own")
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("$CALIG --help >&-", 0, ""),
        ("$CALIG --help | true", 0, ""),
        ("$CALIG query --help | head -1", 0, ""),
        (
            "$CALIG --help > /dev/full",
            3,
            "calig: OSError: [Errno 28] No space left on device (details in ",
        ),
        ("PYTHONIOENCODING=ascii $CALIG deploy --help", 0, ""),
        ("LC_ALL=C TZ=Pacific/Kiritimati $CALIG deploy --help", 0, ""),
    ],
)
def test_where_output_goes(command: str, code: int, says: str, tmp_path: Path) -> None:
    done = _command(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == bool(says)


@extended("a process that imports Prefect")
def test_a_command_runs_beside_folders_of_the_same_names(tmp_path: Path) -> None:
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is the user\\'s')")
    (tmp_path / "a.yaml").write_text("model: {id: none}\ncorpus: {path: none}\n")
    done = _command("$CALIG deploy a.yaml --cron '0 2 * * *' --set name=a", tmp_path)
    assert done.returncode == 2
    assert "PREFECT_API_URL names none" in done.stderr
