#!/usr/bin/env bash
# Run the demo with other versions than .venv has, in an environment on top of it:
#     infra/smoke.sh 'prefect==3.9.*'      these, and what they need
#     infra/smoke.sh newest                the newest that pyproject.toml allows of everything, but torch
# torch stays as it is: a newer one brings gigabytes of CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$PWD/build/smoke
rm -rf "$work" && mkdir -p "$work/empty"
"$python" -m venv "$work/venv"
over=("$work"/venv/lib/python3*/site-packages)
"$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" >"${over[0]}/below.pth"
"$python" -c "import torch; print('torch==' + torch.__version__.partition('+')[0])" >"$work/constraints.txt"
if [ "$1" = newest ]; then
    "$python" - >"$work/wanted.txt" <<'END'
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["demo"]))
END
    wanted=(--upgrade --upgrade-strategy eager -r "$work/wanted.txt")
else
    wanted=("$@")
fi
"$work/venv/bin/pip" install --quiet -c "$work/constraints.txt" "${wanted[@]}"
"$work/venv/bin/pip" list --local
cd "$work/empty"
PYTHONPATH=$OLDPWD "$work/venv/bin/python" -m calig demo
cd - >/dev/null
rm -rf "$work"
