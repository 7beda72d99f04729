#!/bin/sh
# Try the wheel outside the checkout: `try_wheel.sh PYTHON DIST`, where PYTHON's environment has the
# dependencies. The wheel goes to a folder of its own, ahead of everything else.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
wheel=$(ls "$(pwd)/$2"/*.whl)
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$away/site" "$wheel"
cd "$away"
export PYTHONPATH="$away/site"
"$python" -c "import rlcondense; assert rlcondense.__file__.startswith('$away'), rlcondense.__file__"
"$python" -m rlcondense.cli list | grep -q procgen/starpilot-easy-v0
"$python" -m rlcondense.cli show gradmatch >/dev/null
"$python" -c "from rlcondense.experts.zoo import shipped_experts, load_expert; [load_expert(t) for t in shipped_experts()]"
test ! -e "$away/site/leaderboard"
echo "the wheel works outside the checkout"
