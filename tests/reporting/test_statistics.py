from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlcondense.comparison.rows import POLICIES, FloorComparison
from rlcondense.comparison.tables import run_table, transfer_table
from rlcondense.statistics.intervals import (
    STATISTICS,
    Interval,
    aggregate,
    crossed_interval,
    difference,
    difference_of,
    difference_over_tasks,
    gap_over_tasks,
    kendall_tau,
    places_among,
    probability_of_improvement,
    ratio_of_deviations,
    recovery_of,
    student_interval,
    student_means,
    student_returns,
    summarise,
    welch_interval,
)


def _record(
    method: str, heldout: Any, seen: Any = None, seed: int = 0, size: int = 5
) -> dict[str, Any]:
    policy = method in POLICIES
    return {
        "status": "done",
        "action_selection": "sample",
        "cell": {
            "task": "t-v0",
            "dataset": "d-v0",
            "method": {"id": method, "config": {}},
            "budget": None if policy else {"size": size},
            "learner": None if policy else {"id": "bc", "config": {"network": "nature"}},
            "learner_seeds": list(range(len(heldout))),
            "condensation_seed": seed,
            "evaluation": {"environments": 2, "quota": 1},
        },
        "returns": {"heldout": heldout, "seen": heldout if seen is None else seen},
        **({} if policy else {"report": {"size": size, "label_kind": "hard"}}),
    }


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_what_they_claim(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = rng.normal(7, 2, (4000, n))
    intervals = [student_interval(row) for row in samples]
    covered = np.mean([i.low <= 7 <= i.high for i in intervals])
    assert 0.93 < covered < 0.97


def _covered(draw: Callable[[np.random.Generator], Interval], truth: float, times: int) -> float:
    rng = np.random.default_rng(times)
    intervals = [draw(rng) for _ in range(times)]
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def _students(
    rng: np.random.Generator, sets: int, students: int, spread: tuple[float, float, float]
) -> np.ndarray[Any, Any]:
    """Scores that vary by set, by student (of the same seed in each set) and by both."""
    shapes = ((sets, 1), (1, students), (sets, students))
    parts = [rng.normal(0, sd, shape) for sd, shape in zip(spread, shapes, strict=True)]
    return np.asarray(sum(parts))


SPREADS = [
    (0.5, 0.5, 0.5),
    (0.0, 1.0, 0.0),
    *(
        pytest.param(spread, marks=pytest.mark.slow)
        for spread in ((1.0, 0.0, 0.5), (0.2, 1.0, 0.5), (0.0, 0.0, 1.0))
    ),
]


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 5), (5, 3), (2, 3), (2, 10)])
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_cover_new_sets_and_new_students(
    shape: tuple[int, int], spread: tuple[float, float, float]
) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        return crossed_interval(_students(rng, *shape, spread))

    assert 0.92 < _covered(draw, 0, 2000) < 0.998


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (5, 2), (10, 2), (10, 3)])
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_of_two_students_or_of_many_sets_cover_nine_tenths_at_least(
    shape: tuple[int, int], spread: tuple[float, float, float]
) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        return crossed_interval(_students(rng, *shape, spread))

    assert 0.89 < _covered(draw, 0, 2000) <= 1


def test_the_error_of_a_mean_is_worked_out_by_hand() -> None:
    scores = np.array([[0.0, 1.0, 2.5], [2.5, 3.0, 4.0]])
    of_sets = ((scores.mean(1) - scores.mean()) ** 2).sum() * 3
    of_students = ((scores.mean(0) - scores.mean()) ** 2).sum() * 2 / 2
    rest = ((scores - scores.mean()) ** 2).sum() - of_sets - 2 * of_students
    found = crossed_interval(scores)
    assert found.standard_error == pytest.approx(np.sqrt((of_sets + of_students - rest / 2) / 6))
    assert found.n == 2
    alone = crossed_interval(scores[:1])
    assert alone.to_json() == student_interval(scores[0]).to_json()
    same = crossed_interval(np.array([[1.0, 2.0, 4.0]] * 2))
    assert same.standard_error == pytest.approx(student_interval([1.0, 2.0, 4.0]).standard_error)


@pytest.mark.parametrize("sets", [(3, 3), (3, 1), (1, 3), (3, 5)])
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_of_differences_cover_paired_or_not(
    sets: tuple[int, int], spread: tuple[float, float, float]
) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        # A row of one set is a policy's, or that of a method that draws nothing.
        spreads = [spread if n > 1 else (0.0, *spread[1:]) for n in sets]
        return difference_of(
            *(_students(rng, n, 3, own) for n, own in zip(sets, spreads, strict=True))
        )

    assert 0.925 < _covered(draw, 0, 2000) < 0.99


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("m", [2, 3, 5, 10])
def test_welchs_intervals_cover(n: int, m: int) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        return welch_interval(rng.normal(3, 1, n), rng.normal(1, 2, m))

    assert 0.92 < _covered(draw, 2, 3000) < 0.999


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (10, 10), (3, 5), (10, 5)])
def test_intervals_of_recovery_cover_though_its_scale_is_measured_too(n: int, m: int) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        sizes = ((3, 0.3, n), (1.5, 0.1, m), (6.5, 0.5, m))
        found = recovery_of(*(rng.normal(mean, sd, (1, k)) for mean, sd, k in sizes))
        assert found is not None
        return found

    assert 0.93 < _covered(draw, 0.3, 3000) < 0.97


@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_of_recovery_cover_sets_and_students(spread: tuple[float, float, float]) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        row = 3 + 0.3 * _students(rng, 3, 5, spread)
        found = recovery_of(row, rng.normal(1.5, 0.1, (1, 5)), rng.normal(6.5, 0.5, (1, 5)))
        assert found is not None
        assert found.low < found.estimate < found.high
        return found

    assert 0.92 < _covered(draw, 0.3, 2000) < 0.985


def _two_tasks(
    statistic: str, n: int, of_units: float, of_levels: float, of_both: float
) -> Callable[[np.random.Generator], Interval]:
    """Draws of an aggregate: spread of units, of levels, and of what one unit does on one level."""

    def draw(rng: np.random.Generator) -> Interval:
        tasks = [
            rng.normal(0, of_units, (1, n, 1))
            + rng.normal(0, of_levels, (1, 1, 20))
            + rng.normal(0, of_both, (1, n, 20))
            for _ in range(2)
        ]
        return aggregate(tasks, statistic)

    return draw


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("spread", [(0.3, 3.0, 5.0), (1.0, 0.0, 2.0), (0.0, 2.0, 0.5)])
def test_aggregates_cover_new_seeds_and_new_levels(
    n: int, spread: tuple[float, float, float]
) -> None:
    assert 0.93 < _covered(_two_tasks("mean", n, *spread), 0, 2000) < 0.98


@pytest.mark.parametrize("sets", [(3, 3), (3, 5)])
def test_differences_over_tasks_cover_new_levels_paired_or_not(sets: tuple[int, int]) -> None:
    """Two methods of one mean, of which some levels suit the one and some the other."""

    def draw(rng: np.random.Generator) -> Interval:
        own = [
            [
                rng.normal(0, 0.02, (n, 1, 1))
                + rng.normal(0, 0.5, 40)
                + rng.normal(0, 1, (n, 3, 1))
                for _ in range(4)
            ]
            for n in sets
        ]
        return difference_over_tasks(*own)

    assert 0.93 < _covered(draw, 0, 1000) < 0.99


def test_the_gap_over_tasks_is_one_of_levels_too() -> None:
    def draw(rng: np.random.Generator) -> Interval:
        of_students = rng.normal(0, 0.1, (2, 3, 5, 1))
        seen, heldout = (
            [of + rng.normal(0, 1, 50) + rng.normal(0, 0.1, (3, 5, 50)) for of in of_students]
            for _ in range(2)
        )
        return gap_over_tasks(seen, heldout)

    assert 0.93 < _covered(draw, 0, 1000) < 0.97


@pytest.mark.parametrize("n", [3, 5, 10])
def test_robust_aggregates_cover_too_and_with_three_seeds_rather_more(n: int) -> None:
    spread = (1.0, 0.5, 2.0)
    most = 0.995 if n == 3 else 0.98
    assert 0.93 < _covered(_two_tasks("interquartile_mean", n, *spread), 0, 400) < most
    assert _covered(_two_tasks("median", n, *spread), 0, 100) > 0.91


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("lead", [0.0, 1.0, 2.0])
def test_the_probability_of_improvement_covers_at_least_what_it_claims(n: int, lead: float) -> None:
    from scipy.stats import norm

    def draw(rng: np.random.Generator) -> Interval:
        return probability_of_improvement(rng.normal(lead, 1, (1, n)), rng.normal(0, 1, (1, n)))

    assert _covered(draw, float(norm.cdf(lead / np.sqrt(2))), 300) > 0.93


def test_the_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    found = probability_of_improvement(np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 0.0, 0.0]]))
    assert found.estimate == pytest.approx((2 + 2.5 + 3) / 9)
    assert 0 <= found.low < found.estimate < found.high <= 1
    certain = probability_of_improvement(np.array([[5.0, 6.0, 7.0]]), np.array([[1.0, 2.0, 3.0]]))
    assert (certain.estimate, certain.high) == (1, 1)
    assert certain.low < 0.5  # three against three is not enough for more


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_row_of_one_set_is_compared_with_students_and_not_with_means_of_them(
    spread: float,
) -> None:
    rng = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(1 / 2 / math.sqrt(1 + spread**2 / 2)))

    def draw(_: np.random.Generator) -> Interval:
        several = rng.normal(1, 1, (3, 5)) + rng.normal(0, spread, (3, 1))
        one = rng.normal(0, 1, (1, 5))
        there, back = (
            probability_of_improvement(several, one), probability_of_improvement(one, several)
        )  # fmt: skip
        assert there.estimate == pytest.approx(1 - back.estimate)
        assert there.n == back.n == 3
        return there

    found = [draw(rng) for _ in range(400)]
    assert np.mean([one.estimate for one in found]) == pytest.approx(truth, abs=0.02)
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.93


def test_tasks_weigh_the_same_in_the_interquartile_mean_whatever_their_sets() -> None:
    low, high = np.zeros((1, 2, 3)), np.ones((6, 2, 3))
    assert aggregate([low, high], "interquartile_mean").estimate == pytest.approx(0.5)


def _scores() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(7)
    return [rng.gamma(task + 1.0, size=(1, 5, 12)) for task in range(6)]


def test_aggregates_are_agarwals() -> None:
    """Over runs and tasks as in arXiv:2108.13264: the same from scipy, written out."""
    from scipy.stats import trim_mean

    matrix = np.stack([task[0].mean(1) for task in _scores()], 1)
    found = {name: aggregate(_scores(), name).estimate for name in STATISTICS}
    assert found["mean"] == pytest.approx(matrix.mean())
    assert found["median"] == pytest.approx(np.median(matrix.mean(0)))
    assert found["interquartile_mean"] == pytest.approx(trim_mean(matrix, 0.25, axis=None))


@pytest.mark.parametrize("shapes", [((3, 2), (5, 2)), ((3, 5), (1, 2)), ((1, 2), (4, 2))])
def test_two_students_have_two_degrees_of_freedom_paired_or_not(
    shapes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    from scipy.stats import t

    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape) for shape in shapes)
    found = difference_of(x, y)
    half = (found.high - found.low) / 2
    assert half >= 0.999 * t.ppf(0.975, 2) * found.standard_error
    over = difference_over_tasks(*([np.repeat(z[..., None], 4, -1)] for z in (x, y)))
    assert (over.high - over.low) / 2 >= 0.999 * t.ppf(0.975, 2) * over.standard_error


def test_aggregates_of_equal_seeds_are_the_same_every_time() -> None:
    assert aggregate(_scores(), "median") == aggregate(_scores(), "median")


def test_statistics_are_of_a_students_episodes() -> None:
    rows = [[0.0, 0.0, 1.0, 9.0], [2.0, 2.0, 2.0, 2.0]]
    records = [_record("m", rows)]
    returns = student_returns(records, "heldout")
    assert STATISTICS["median"](returns).tolist() == [[0.5, 2.0]]
    assert STATISTICS["interquartile_mean"](returns).tolist() == [[0.5, 2.0]]
    both = [*records, _record("m", [[4.0] * 4, [6.0] * 4], seed=1)]
    medians = STATISTICS["median"](student_returns(both, "heldout"))
    assert medians.tolist() == [[0.5, 2.0], [4.0, 6.0]]


def test_sets_that_are_the_same_have_the_error_of_their_students() -> None:
    rows = [[1.0, 2.0], [3.0, 5.0], [4.0, 4.5]]
    same = [_record("m", rows, seed=seed) for seed in range(3)]
    found = crossed_interval(student_means(same, "heldout"))
    alone = crossed_interval(student_means(same[:1], "heldout"))
    assert found.standard_error == pytest.approx(alone.standard_error)
    assert found.low == pytest.approx(alone.low)
    assert (found.n, alone.n) == (3, 3)


def test_the_unit_is_the_seed_not_the_episode() -> None:
    summary = summarise([[0.0, 10.0] * 500, [0.0, 10.0] * 500, [0.0, 10.0] * 500])
    assert summary["mean"] == 5
    assert summary["standard_error"] == 0
    assert summary["episode_standard_error"] > 0.1
    assert summary["episodes"] == 3000


def test_one_seed_has_no_interval() -> None:
    summary = summarise([[1.0, 2.0, 3.0]])
    assert summary["interval"] is None
    assert summary["standard_error"] is None
    assert summary["episode_standard_error"] == pytest.approx(1 / np.sqrt(3))


def test_differences_are_paired_by_seed() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 5, (3, 50))
    a, b = _record("a", levels + np.array([[0.9], [1.0], [1.1]])), _record("b", levels)
    paired = difference([a], [b], "heldout")
    assert paired.estimate == pytest.approx(1)
    assert paired.low == pytest.approx(1 - 4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    assert paired.above_zero


def test_places_are_counted_by_the_differences_to_each_row() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(1, 1, (3, 2))
    others = rng.normal(np.linspace(-6, 8, 60)[:, None, None], 1, (60, 3, 2))
    others[7] = own  # equal units show nothing
    each = [difference_of(own, other) for other in others]
    above, below = sum(d.below_zero for d in each), sum(d.above_zero for d in each)
    assert places_among(own, others) == (above, below)
    assert min(above, below) > 5
    assert places_among(own, np.empty((0, 3, 2))) == (0, 0)
    assert places_among(own[:1, :1], others[:, :1, :1]) is None


def test_units_that_agree_to_the_last_digit_make_nothing_certain() -> None:
    same = student_interval([0.4, 0.4, 0.4])
    assert same.low == pytest.approx(same.high)
    assert not same.above_zero
    assert FloorComparison("random", same, same).verdict == "unknown"
    assert FloorComparison("random", student_interval([0.0, 0.0]), same).verdict == "level"


def test_several_condensation_seeds_are_the_units() -> None:
    a = [_record("a", np.full((2, 3), value), seed=i) for i, value in enumerate((1.0, 2.0, 3.0))]
    b = [_record("b", np.zeros((2, 3)))]
    result = difference(a, b, "heldout")
    assert result.estimate == pytest.approx(2)
    assert result.low < 0.5
    assert result.high > 3.5


def test_recovery_is_nothing_where_expert_and_random_policy_cannot_be_told_apart() -> None:
    row, floor = [_record("m", [[2.0], [2.2], [2.1]])], [_record("r", [[1.0], [1.1], [0.9]])]
    ceiling = [_record("e", [[3.1], [3.0], [2.9]])]
    means = (student_means(records, "heldout") for records in (row, floor, ceiling))
    share = recovery_of(*means)
    assert share is not None
    assert share.estimate == pytest.approx(0.55)
    equal = np.array([[1.0, 0.9, 1.1]])
    assert (
        recovery_of(student_means(row, "heldout"), student_means(floor, "heldout"), equal) is None
    )


def _sets(method: str, *means: float) -> list[dict[str, Any]]:
    """A record for each set, three students each."""
    return [_record(method, [[m - 0.1], [m], [m + 0.1]], seed=s) for s, m in enumerate(means)]


FLOORS = [
    _record("random-policy", [[1.0], [1.1], [0.9]]),
    _record("marginal-policy", [[2.1], [2.0], [1.9]]),
    _record("full", [[3.0], [3.1], [2.9]]),
    _record("expert", [[5.1], [4.8], [5.1]]),
]


def test_a_row_that_does_not_clear_its_floors_is_marked() -> None:
    references = [*FLOORS, *_sets("random", 1.1, 1.2, 1.0)]
    weak = run_table(_sets("gradmatch", 1.8, 2.0, 1.9), references)
    assert "! gradmatch does not clear the marginal policy on held-out levels" in weak
    assert re.search(r"^gradmatch ! ", weak, re.MULTILINE)
    strong = run_table(_sets("gradmatch", 2.9, 2.8, 3.0), references)
    assert "clears the random policy, the marginal policy and the random subset" in strong
    assert re.search(r"^gradmatch  ", strong, re.MULTILINE)
    assert "48% [" in strong


def test_a_set_of_so_many_bytes_is_compared_with_random_rows_of_as_many_bytes() -> None:
    def coded(records: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
        for record in records:
            record["cell"]["budget"] = {"bytes": 1000, "bits": 4}
            record["report"]["size"] = size
        return records

    rows = coded(_sets("gradmatch", 1.8, 2.0, 1.9), 5)
    of_rows = _sets("random", 9.1, 9.2, 9.0)  # of the same number of rows
    alone = run_table(rows, [*FLOORS, *of_rows])
    assert "random subset: no row of it" in alone
    beside = run_table(rows, [*FLOORS, *of_rows, *coded(_sets("random", 1.1, 1.2, 1.0), 6)])
    assert "0.80 [" in beside


@pytest.mark.parametrize("means", [(9.0,), (0.0,)])
def test_one_set_of_a_method_that_draws_is_not_judged(means: tuple[float]) -> None:
    text = run_table(_sets("gradmatch", *means), [*FLOORS, *_sets("random", 1.1)])
    assert (
        "? gradmatch: one set: not judged against the random policy, the marginal policy and the "
        "random subset." in text
    )
    assert "clear the" not in text.split("clear the random policy, the marginal")[1]
    assert re.search(r"^gradmatch \? ", text, re.MULTILINE)
    assert re.search(r"^random \? ", text, re.MULTILINE)


def test_one_student_is_not_judged_either() -> None:
    alone = [_record(m, [[x]]) for m, x in (("random-policy", 1.0), ("marginal-policy", 2.0))]
    sets = [_record("gradmatch", [[8.75 + s]], seed=s) for s in range(3)]
    text = run_table(sets, [*alone, *(_record("random", [[0.2]], seed=s) for s in range(3))])
    assert "? gradmatch: one learner seed: not judged against" in text
    assert "gradmatch does not clear" not in text


def test_a_method_that_draws_nothing_needs_one_set_and_several_random_ones() -> None:
    own = [_record("bc-10", [[2.9], [3.1], [2.8]])]
    policies = FLOORS[:2]
    several = run_table(own, [*policies, *_sets("random", 1.1, 1.2, 1.0)])
    assert "bc-10 clears the random policy, the marginal policy and the random subset" in several
    single = run_table(own, [*policies, _record("random", [[1.1], [1.0], [1.2]])])
    assert "? bc-10 is not judged against the random subset: no row of it, or no spread." in single
    assert "bc-10 clears" not in single
    full = run_table([_record("full", [[2.9], [3.1], [2.8]])], policies)
    assert "full clears the random policy and the marginal policy on held-out levels." in full


def test_a_matrix_of_learners_has_the_verdicts_of_the_table() -> None:
    policies = [r for r in FLOORS if r["cell"]["learner"] is None]
    for means, mark in (((9.0,), " ?"), ((1.8, 2.0, 1.9), " !"), ((2.9, 2.8, 3.0), "")):
        rows = {"gradmatch": _sets("gradmatch", *means), "random 5": _sets("random", 1.1, 1.2, 1)}
        text = transfer_table({n: {"bc": row} for n, row in rows.items()}, policies, ["bc"])
        line = next(line for line in text.splitlines() if line.startswith("gradmatch"))
        assert line.rstrip().endswith(f"]{mark}" if len(means) > 1 else mark)
        table = run_table(rows["gradmatch"], [*FLOORS, *rows["random 5"]])
        assert re.search(rf"^gradmatch{re.escape(mark)}  ", table, re.MULTILINE)


def test_kendall_tau_is_kendalls() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == (1.0, 3)
    assert kendall_tau([1, 2, 3, 4], [2, 1, 3, 4]) == (pytest.approx(2 / 3), 4)
    assert kendall_tau([1, 2], [2, 1]) is None
    assert kendall_tau([1, 2, 3], [5, 5, 5]) is None


def _undone(method: str, status: str, seed: int = 0) -> dict[str, Any]:
    record = {
        **_record(method, [[1.0], [1.0]], seed=seed),
        "status": status,
        "reason": "needs luck",
    }
    return {k: v for k, v in record.items() if k not in ("returns", "report")}


def test_a_row_whose_second_record_is_undone_is_undone() -> None:
    done = _record("m", [[1.0, 2.0], [2.0, 3.0]])
    assert run_table([done, _undone("m", "failed", 1)], []) == "m with bc: failed (needs luck)"
    floor = _record("random-policy", [[0.0, 0.1], [0.1, 0.2]])
    random = [_record("random", [[1.0, 2.0], [2.0, 3.0]]), _undone("random", "skipped", 1)]
    text = run_table([done], [floor, *random])
    assert re.search(r"^random +5 +skipped +skipped", text, re.MULTILINE)
    assert "random with bc: skipped (needs luck)" in text


def test_labels_that_a_learner_does_not_take_are_told() -> None:
    record = _record("m", [[1.0, 2.0], [2.0, 3.0]])
    record["report"]["label_kind"], record["labels"] = "soft", "hard"
    floor = _record("random-policy", [[0.0, 0.1], [0.1, 0.2]])
    assert "bc takes no soft labels: it learned the actions taken." in run_table([record], [floor])
    record["labels"] = "soft"
    assert "no soft labels" not in run_table([record], [floor])


def test_ratio_of_deviations_of_values_worked_out_by_hand() -> None:
    # r = 0.5 and n = 4: K = 1 + 2 (1 - r^2) t^2 / (n - 2) with t = 4.30265, so 14.8845.
    x = np.array([-1.0, 1.0, -1.0, 1.0])
    y = 2 * (0.5 * x + np.sqrt(0.75) * np.array([-1.0, -1.0, 1.0, 1.0]))
    ratio = ratio_of_deviations(x, y)
    assert ratio is not None
    wide = np.sqrt(14.8845 + np.sqrt(14.8845**2 - 1))
    assert ratio.estimate == pytest.approx(0.5)
    assert (ratio.low, ratio.high) == pytest.approx((0.5 / wide, 0.5 * wide), rel=1e-4)
    back = ratio_of_deviations(y, x)
    assert back is not None
    assert (back.low, back.high) == pytest.approx((2 / wide, 2 * wide), rel=1e-4)


def test_ratio_of_deviations_holds_the_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        shared, own = rng.normal(size=(2, 8))
        found = ratio_of_deviations(3 * (0.6 * shared + 0.8 * own), shared)
        assert found is not None
        held += found.low <= 3 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("x", [[1.0, 2.0], [1.0, 1.0, 1.0]])
def test_ratio_of_deviations_needs_three_pairs_that_vary(x: list[float]) -> None:
    assert ratio_of_deviations(np.array(x), np.arange(float(len(x)))) is None


def test_scores_that_are_equal_but_for_rounding_have_no_error() -> None:
    values = (0.00048000000000000045, 0.0, -0.007947019867549669)  # of a policy that never varies
    found = aggregate([np.full((1, 5, 1), value) for value in values], "interquartile_mean")
    assert found.low == pytest.approx(found.estimate)
    assert found.high == pytest.approx(found.estimate)


def test_a_method_that_draws_by_its_settings_needs_sets() -> None:
    def rows(fraction: float) -> list[dict[str, Any]]:
        record = _record("percentile", [[2.9], [3.1], [2.8]])
        record["cell"]["method"]["config"] = {"fraction": fraction}
        return [record]

    assert "? percentile: one set: not judged" in run_table(rows(0.2), FLOORS)
    assert "percentile clears" in run_table(rows(1.0), [*FLOORS[:2], *_sets("random", 1, 1.1, 1.2)])
