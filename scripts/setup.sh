#!/usr/bin/env bash
# Makes .venv beside this repository: CPU torch, then everything else. Safe to run again. Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
    echo "$("$PYTHON" --version 2>&1) found, Python 3.10 to 3.13 needed: make setup PYTHON=/path/to/python3.12" >&2
    exit 1
}

# An environment that was moved or whose Python is gone is made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qF "$(pwd -P)/.venv" .venv/bin/activate; then
    echo "Making .venv with $("$PYTHON" --version)"
    "$PYTHON" -m venv --clear .venv
fi
# The output is quiet, errors aside: a resolver's chatter hides what matters.
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt "$@"; }

echo "Installing torch (the large one)"
install torch numpy
# torchaudio without its dependencies: some releases would bring another torch.
echo "Installing torchaudio"
install --no-deps torchaudio

# torchaudio's optional extension is linked to CUDA libraries, which a CPU torch does not have; with it there, the import
# stops with OSError, without it everything that this project uses works. A torch with CUDA keeps it.
.venv/bin/python - <<'PY'
import sysconfig
from pathlib import Path

import torch

extension = Path(sysconfig.get_path("platlib"), "torchaudio", "lib", "_torchaudio.abi3.so")
if torch.version.cuda is None and extension.exists():
    extension.unlink()
    print("Removed torchaudio's CUDA-linked extension: this torch has no CUDA, and torchaudio would not import with it")
PY

echo "Installing the rest"
install -r requirements-dev.txt
.venv/bin/python -c 'import torch, torchaudio, transformers, mediapipe, av, safetensors'
