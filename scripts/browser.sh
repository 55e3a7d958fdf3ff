#!/usr/bin/env bash
# Makes sure that the tests of the canvas find a Chromium: the system's, or Playwright's own. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

for name in "${LLIA_CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium for the tests of the canvas"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
    exit 0
fi
.venv/bin/python -m playwright install chromium || {
    echo "The tests of the canvas need Chromium: install it with your system's package manager, or set LLIA_CHROMIUM" >&2
    exit 1
}
