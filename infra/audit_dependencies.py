"""Ask whether the packages that CI installs have known vulnerabilities: `make audit-dependencies`.

Exits with 1 where one has. A service of advisories that cannot be reached from here is said to be so, in one line, and
fails nothing: there are machines without a way to it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NO_WAY = re.compile(r"connect|timed? ?out|resolve|ServiceError|HTTPError", re.IGNORECASE)
"""How the last line of pip-audit reads where the service does not answer, or not as it should."""
PINNED = re.compile(r"^([A-Za-z0-9._-]+==[^\s;+\\]+)", re.MULTILINE)


def pins(folder: Path) -> list[str]:
    """Return what CI installs, as name==version: the lock, and torch, which is not in it."""
    locked = PINNED.findall((folder / "requirements.lock").read_text())
    torch = [
        pin for pin in PINNED.findall((folder / "constraints.txt").read_text()) if pin.startswith("torch==")
    ]
    return [*locked, *torch]


def ask(packages: Sequence[str], options: Sequence[str]) -> list[dict[str, Any]]:
    """Return what pip-audit says of those packages that the service knows; none where it cannot be reached.

    Raises
    ------
    SystemExit
        It said nothing for another reason, such as not being installed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(packages))
        listed.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            listed.name,
            "--no-deps",
            "--disable-pip",
        ]
        command += ["--format", "json", "--desc", "off", "--progress-spinner", "off", *options]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]
        if NO_WAY.search(reason):
            return []
        raise SystemExit(f"dependencies are not audited: {reason}") from None
    return [dependency for dependency in dependencies if "vulns" in dependency]


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask PyPI, then OSV if that does not answer; print a line per vulnerability, or one in all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--osv-url", help="ask this service alone, which speaks as api.osv.dev does")
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="where requirements.lock and constraints.txt are"
    )
    asked = parser.parse_args(arguments)
    services = {"PyPI": ["-s", "pypi"], "OSV": ["-s", "osv"]}
    if asked.osv_url is not None:
        services = {asked.osv_url: ["-s", "osv", "--osv-url", asked.osv_url]}
    packages = pins(asked.folder)
    for service, options in services.items():
        known = ask(packages, options)
        if not known:
            continue
        found = [(one, vulnerability) for one in known for vulnerability in one["vulns"]]
        for one, vulnerability in found:
            cure = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {vulnerability['id']}, mended in {cure}")
        text = f"{len(known)} of {len(packages)} packages audited with {service}"
        print(f"{text}: {len(found) or 'no'} known vulnerabilities")
        return 1 if found else 0
    print(f"dependencies are not audited: {' and '.join(services)} cannot be reached from here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
