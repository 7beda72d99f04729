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
export RLCONDENSE_HOME="$away/home" MINARI_DATASETS_PATH="$away/minari"
"$python" -m rlcondense.cli new method herding-demo >/dev/null
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$away/site" ./herding-demo
"$python" -m rlcondense.cli plugins | grep -q "herding-demo .* ok"
"$python" -m rlcondense.cli check herding-demo | tail -n 1
"$python" -m rlcondense.cli run --method herding-demo --task starpilot --size 50 --seeds 1 --episodes 4 \
    --set learner.updates=20 --set learner.network=cnn4 | grep -q "^herding-demo"
echo "the wheel works outside the checkout"
