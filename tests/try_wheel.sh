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
"$python" -m rlcondense.cli list | grep -q procgen/starpilot-easy-v0
"$python" -m rlcondense.cli show gradmatch >/dev/null
"$python" -m rlcondense.cli sweep smoke --dry-run | grep -q "9 missing"
"$python" - "$away" <<'END'
import sys

import rlcondense
from rlcondense.experts.shipped import load_expert, shipped_experts
from rlcondense.records.shipped import shipped_summaries
from rlcondense.reporting.pages.render import environment

assert rlcondense.__file__.startswith(sys.argv[1]), rlcondense.__file__
assert [load_expert(expert) for expert in shipped_experts().values()]
assert shipped_summaries("procgen/starpilot-plain/expert-v0")
environment().get_template("index.html")
END
"$python" "$away/site/rlcondense/_catalogue/baselines/experts/students.py" --help >/dev/null
test -e "$away/site/rlcondense/py.typed"
test ! -e "$away/site/leaderboard"

# A package written by the template, in an environment of its own: only the dependencies are lent.
unset PYTHONPATH
export RLCONDENSE_HOME="$away/home" MINARI_DATASETS_PATH="$away/minari"
"$python" -m venv "$away/fresh"
lent=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
echo "$lent" > "$("$away/fresh/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/lent.pth"
PATH="$away/fresh/bin:$PATH"
pip install --quiet --disable-pip-version-check --no-deps --ignore-installed "$wheel"
python -c "import rlcondense; assert rlcondense.__file__.startswith('$away/fresh'), rlcondense.__file__"
rlcondense new method herding-demo
pip install --quiet --disable-pip-version-check ./herding-demo
python -m pytest -q -p no:cacheprovider herding-demo > checks.txt 2>&1 &  # its checks
trap 'kill $! 2>/dev/null || true; cat checks.txt; rm -rf "$away"' EXIT
rlcondense plugins | grep "herding-demo .* ok"
rlcondense run --method herding-demo --task jumper-plain --size 50 --seeds 1 --episodes 4 \
    --set learner.updates=20 --set learner.network=compact --no-references > run.txt
grep "^herding-demo" run.txt
wait $!
echo "the wheel works outside the checkout"
