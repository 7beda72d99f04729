"""Conformance checks of condensation methods."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense.catalogue import Entry
from rlcondense.checks.base import Check, CheckFailed, CheckSkipped, bind
from rlcondense.checks.common import (
    HELDOUT_REFUSED,
    SAMPLE_TASK,
    Traces,
    Trial,
    cancel,
    check_cancellation,
    check_config_frozen,
    check_config_json,
    check_id,
    check_presets,
    check_progress,
    check_unknown_key,
    check_warnings,
    contained,
    in_a_fresh_process,
    sample_data,
    shows_heldout,
    watch,
)
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.report import LABEL_KINDS
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.experts.shipped import Expert
from rlcondense.files import sha256_arrays
from rlcondense.make import configured, facts_of, make_learner, make_task
from rlcondense.methods.base import NEEDS, Method
from rlcondense.networks import NetworkSpec, fresh_from
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

SIZE = 20


@dataclass(frozen=True)
class Subject:
    """A method with the task, data and expert that the checks use.

    Attributes:
        entry: of the catalogue; its fact `check_config` holds settings that make it quick.
        traces: files and state that condensing changed.
    """

    entry: Entry
    traces: Traces = field(default_factory=Traces)

    @cached_property
    def task(self) -> Task:
        """The task of the sample."""
        return make_task(SAMPLE_TASK)

    @cached_property
    def data(self) -> TransitionDataset:
        """The sample data to condense."""
        return sample_data()

    @cached_property
    def data_sha256(self) -> str:
        """The sha256 of the data before anything was condensed."""
        return sha256_arrays(self.data.columns())

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts of the catalogue entry and of the class."""
        return facts_of(self.entry)

    @cached_property
    def method(self) -> Method[Any]:
        """The method with its quick settings."""
        method = configured(self.entry, Method, dict(self.facts.get("check_config", {})))
        assert isinstance(method, Method)
        return method

    @property
    def name(self) -> str:
        """The class, for messages."""
        return type(self.method).__name__

    @property
    def budget(self) -> Budget:
        """A small budget, in the unit that the method takes."""
        budget = self.facts.get("budget", {})
        if "percent" in budget:
            unit = budget.get("unit", "transitions")
            return Budget(percent=50 if budget["percent"] < 100 else 100, unit=unit)
        return Budget(size=SIZE)

    @cached_property
    def expert(self) -> Expert:
        """An untrained expert."""
        network = fresh_from(NetworkSpec("nature", (3, 64, 64), 15), "cpu", 0)
        return Expert(self.task.id, network, "0" * 64, {})

    def condense(
        self,
        seed: int = 0,
        budget: Budget | None = None,
        progress: Progress = silent,
        data: TransitionDataset | None = None,
    ) -> CondensedDataset:
        """Condense the sample, or other data."""
        self.data_sha256  # noqa: B018  taken before the first time
        with contained(self.traces):
            return self.method.condense(
                data or self.data,
                task=self.task,
                budget=budget or self.budget,
                expert=self.expert,
                seed=seed,
                progress=progress,
            )

    @cached_property
    def watched(self) -> Trial[CondensedDataset]:
        """The condensed set of seed 0, and the side effects of condensing it."""
        self.data_sha256, self.method, self.expert  # noqa: B018  made before anything is watched
        return watch(lambda progress: self.condense(progress=progress), self.task)

    @property
    def result(self) -> CondensedDataset:
        """The condensed set of seed 0."""
        return self.watched.result


def method_checks(entry: Entry) -> list[Check]:
    """Return the checks of one method."""
    return bind(CHECKS, Subject(entry))


def id_follows_the_grammar(s: Subject) -> None:
    """The id is [namespace/]name[-vN]."""
    check_id(s.entry)


def says_what_it_is(s: Subject) -> None:
    """Access, needs and kinds of label are declared in known words."""
    method = s.method
    if method.access not in ("offline", "online"):
        raise CheckFailed(f"{s.name}.access is {method.access!r}; say 'offline' or 'online'")
    if unknown := set(method.needs) - NEEDS:
        raise CheckFailed(f"{s.name}.needs has {sorted(unknown)}; known are {sorted(NEEDS)}")
    if not method.label_kinds or (unknown := set(method.label_kinds) - set(LABEL_KINDS)):
        raise CheckFailed(
            f"{s.name}.label_kinds is {method.label_kinds}; name some of {', '.join(LABEL_KINDS)}"
        )


def config_is_frozen(s: Subject) -> None:
    """Config is a frozen dataclass with defaults."""
    check_config_frozen(s.entry.load().Config, s.entry.load().__name__)


def config_leaves_budget_and_seed_out(s: Subject) -> None:
    """Config holds neither budget nor seed, which are the run's to choose."""
    extra = {f.name for f in fields(s.method.Config)} & {"budget", "size", "percent", "seed"}
    if extra:
        raise CheckFailed(
            f"{s.name}.Config has {', '.join(sorted(extra))}: take the budget and the seed from "
            "the problem"
        )


def config_survives_json(s: Subject) -> None:
    """Config comes back from JSON as it was."""
    check_config_json(s.method.config, s.name)


def presets_can_be_made(s: Subject) -> None:
    """Each preset has known settings."""
    check_presets(s.entry, Method)


def unknown_settings_are_refused(s: Subject) -> None:
    """A setting that does not exist is refused."""
    check_unknown_key(s.method.Config, s.name)


def budget_of_one_is_kept_or_refused(s: Subject) -> None:
    """A budget of one transition gives one, or a clear refusal."""
    if s.budget.size is None:
        raise CheckSkipped("it takes a percentage")
    try:
        size = len(s.condense(budget=Budget(size=1)))
    except BadConfig:
        return
    if size != 1:
        raise CheckFailed(f"a budget of 1 gave {size} transitions")


def budget_is_used_and_not_exceeded(s: Subject) -> None:
    """A budget in transitions is used to the full, and never exceeded."""
    if s.budget.size is None:
        len(s.result)  # the base class raises if the set is too large
        return
    if len(s.result) != SIZE:
        raise CheckFailed(
            f"a budget of {SIZE} gave {len(s.result)} transitions: rows of a table are compared at "
            "equal size"
        )


def budget_above_the_data_is_refused(s: Subject) -> None:
    """A budget above the size of the data raises BadConfig."""
    if not s.method.takes_data:
        raise CheckSkipped("it condenses no data")
    if s.budget.size is None:
        raise CheckSkipped("it takes a percentage")
    try:
        s.condense(budget=Budget(size=len(s.data) + 1))
    except BadConfig:
        return
    raise CheckFailed("a budget above the data was taken: ask for problem.size, which refuses it")


def output_fits_the_task(s: Subject) -> None:
    """Observations, actions and labels have the task's shapes, types and ranges."""
    data = s.result  # the base class has checked shapes, types, finiteness and action ranges
    observations = np.asarray(data.observations, np.float64)
    space = s.task.observation_space
    low, high = float(space.low.min()), float(space.high.max())  # type: ignore[attr-defined]
    if observations.min() < low or observations.max() > high:
        raise CheckFailed(
            f"observations lie in [{observations.min():.4g}, {observations.max():.4g}], the task's "
            f"in [{low:.4g}, {high:.4g}]: keep the environment's units, and clamp"
        )
    if data.weights.min() < 0 or not data.weights.sum() > 0:
        raise CheckFailed("weights must not be negative, nor all zero")


def labels_are_as_declared(s: Subject) -> None:
    """The kind of label is a declared one, and soft labels are distributions."""
    data = s.result
    if data.label_kind not in s.method.label_kinds:
        raise CheckFailed(
            f"it gave {data.label_kind} labels, but {s.name}.label_kinds is {s.method.label_kinds}"
        )
    if data.label_kind != "soft":
        return
    if data.action_probs is None:
        raise CheckFailed("soft labels need a column action_probs")
    sums = data.action_probs.sum(1)
    if data.action_probs.min() < 0 or not np.allclose(sums, 1, atol=1e-3):
        raise CheckFailed("each row of action_probs must be a distribution: positive, summing to 1")


def gives_what_it_says(s: Subject) -> None:
    """A method that names the columns it gives, gives no others."""
    if s.method.gives is None:
        raise CheckSkipped("it names none")
    if more := s.result.provides() - set(s.method.gives):
        raise CheckFailed(f"it gave {', '.join(sorted(more))} too: name them in {s.name}.gives")


def the_expert_is_used_only_if_declared(s: Subject) -> None:
    """An expert is loaded only by a method whose needs say so."""
    if "expert" in s.method.needs:
        raise CheckSkipped("it declares that it needs the expert")
    if s.watched.experts:
        raise CheckFailed(
            f"it loads an expert by itself: say needs = frozenset({{'expert'}}) in {s.name} and "
            "use problem.expert"
        )


def rewards_are_read_only_if_declared(s: Subject) -> None:
    """Data with other rewards give the same rows, unless the needs name rewards."""
    if not s.method.takes_data or "rewards" in s.method.needs:
        raise CheckSkipped("it makes its data itself, or declares that it needs rewards")
    other = np.arange(len(s.data), dtype=np.float32) - 2 * s.data.column("rewards")
    of_other = s.condense(data=replace(s.data, rewards=other))
    kept, again = ({**part.arrays(), "rewards": other[:0]} for part in (s.result, of_other))
    if sha256_arrays(kept) != sha256_arrays(again):
        if s.condense().sha256 != s.result.sha256:
            raise CheckSkipped("it is not deterministic, which another check says")
        raise CheckFailed(
            f"other rewards give other rows: say needs = frozenset({{'rewards'}}) in {s.name}"
        )


def the_same_seed_gives_the_same_bytes(s: Subject) -> None:
    """Two condensations from one seed are equal to the bit."""
    if s.condense().sha256 != s.result.sha256:
        raise CheckFailed(
            "two condensations from seed 0 differ: draw everything random from problem.seed"
        )


def another_seed_gives_other_data(s: Subject) -> None:
    """Another seed gives other data, unless the method is declared deterministic."""
    same = s.condense(seed=1).sha256 == s.result.sha256
    if same and s.method.stochastic:
        raise CheckFailed(
            f"seeds 0 and 1 give the same data: use problem.seed, or say stochastic = False in "
            f"{s.name}"
        )
    if not same and not s.method.stochastic:
        raise CheckFailed(f"seeds 0 and 1 give different data, but {s.name}.stochastic is False")


def global_randomness_is_left_alone(s: Subject) -> None:
    """The global random states of random, numpy and torch stay as they were."""
    len(s.result)
    s.traces.check_state()


def the_source_is_left_alone(s: Subject) -> None:
    """The dataset is not written to."""
    before = s.data_sha256
    s.condense()
    if sha256_arrays(s.data.columns()) != before:
        raise CheckFailed(
            "it changed the dataset: copy the rows first (torch.from_numpy shares their memory)"
        )


def no_files_are_left(s: Subject) -> None:
    """Nothing is left in the working folder or among temporary files, interrupted or not."""
    len(s.result)
    with contextlib.suppress(KeyboardInterrupt, Exception):
        s.condense(progress=cancel)
    s.traces.check_files()


def heldout_levels_are_never_made(s: Subject) -> None:
    """Environments are made of seen levels only, by whatever way."""
    try:
        environments = s.watched.environments
    except RLCondenseError as error:
        if "may only make the seen levels" not in str(error):
            raise
        raise CheckFailed(HELDOUT_REFUSED) from error
    if shows_heldout(environments, s.task):
        raise CheckFailed(HELDOUT_REFUSED)
    if environments and s.method.access == "offline":
        raise CheckFailed(
            f"it steps the environment, but {s.name}.access is 'offline': say 'online', and count "
            "the steps in Condensation.environment_steps"
        )


def what_is_saved_comes_back(s: Subject) -> None:
    """Saved and loaded, the data are equal to the bit."""
    with tempfile.TemporaryDirectory() as name:
        s.result.save(Path(name))
        again = load_condensed(Path(name))
    if again.sha256 != s.result.sha256 or again.report != s.result.report:
        raise CheckFailed("saved and loaded, the data or the report differ")


def a_learner_trains_on_it(s: Subject) -> None:
    """Behavioural cloning takes the data."""
    learner = make_learner("bc", network="cnn4", updates=2, batch_size=8)
    learner.fit(s.result, task=s.task, seeds=[0])


def a_fresh_process_gives_the_same_bytes(s: Subject) -> None:
    """A new interpreter, where CUDA may not be touched, gives the same data."""
    elsewhere = in_a_fresh_process(s.entry, "rlcondense.checks.methods:condensed_sha256")
    if elsewhere != s.result.sha256:
        raise CheckFailed(
            "a fresh process gives other data: depend on nothing but the problem (no hash(), no "
            "order of sets, no state of the module)"
        )


def condensed_sha256(entry: Entry) -> str:
    """Return the sha256 of the condensed sample, for another process to compare."""
    return Subject(entry).result.sha256


def progress_is_reported(s: Subject) -> None:
    """Progress is reported in work that takes longer than three seconds."""
    check_progress(s.watched)


def ctrl_c_is_let_through(s: Subject) -> None:
    """Ctrl-C ends it."""
    check_cancellation(lambda progress: s.condense(progress=progress))


def there_are_no_warnings(s: Subject) -> None:
    """It warns of nothing."""
    check_warnings(s.watched)


CHECKS = (
    id_follows_the_grammar,
    says_what_it_is,
    presets_can_be_made,
    config_is_frozen,
    config_leaves_budget_and_seed_out,
    config_survives_json,
    unknown_settings_are_refused,
    budget_of_one_is_kept_or_refused,
    budget_is_used_and_not_exceeded,
    budget_above_the_data_is_refused,
    output_fits_the_task,
    labels_are_as_declared,
    gives_what_it_says,
    the_expert_is_used_only_if_declared,
    rewards_are_read_only_if_declared,
    the_same_seed_gives_the_same_bytes,
    another_seed_gives_other_data,
    global_randomness_is_left_alone,
    the_source_is_left_alone,
    no_files_are_left,
    heldout_levels_are_never_made,
    what_is_saved_comes_back,
    a_learner_trains_on_it,
    a_fresh_process_gives_the_same_bytes,
    progress_is_reported,
    ctrl_c_is_let_through,
    there_are_no_warnings,
)
