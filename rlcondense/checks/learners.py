"""Conformance checks of learners."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlcondense.catalogue import Entry
from rlcondense.checks.base import Check, CheckFailed, CheckSkipped, bind
from rlcondense.checks.common import (
    SAMPLE_TASK,
    SampleBoxTask,
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
    sample_box_data,
    sample_data,
    watch,
)
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.report import LABEL_KINDS
from rlcondense.datasets.transitions import COLUMNS
from rlcondense.files import sha256_arrays
from rlcondense.learners.base import Learner
from rlcondense.make import configured, facts_of, make_method, make_task
from rlcondense.policies import ACTION_SELECTIONS, NetworkPolicies, PolicyBatch, load_policies
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task

FRAMES = 64
ACTION_KINDS = ("discrete", "continuous")


@dataclass(frozen=True)
class Subject:
    """A learner with the task and data that the checks use.

    Attributes:
        entry: of the catalogue; its fact `check_config` holds settings that make it quick.
        traces: files and state that training changed.
    """

    entry: Entry
    traces: Traces = field(default_factory=Traces)

    @cached_property
    def task(self) -> Task:
        """The task of the sample: frames and discrete actions, if the learner takes those."""
        return make_task(SAMPLE_TASK) if self.discrete else SampleBoxTask()

    @property
    def discrete(self) -> bool:
        """True if the learner takes discrete actions."""
        return "discrete" in self.learner.action_kinds

    @cached_property
    def learner(self) -> Learner[Any]:
        """The learner with its quick settings."""
        settings = dict(facts_of(self.entry).get("check_config", {}))
        learner = configured(self.entry, Learner, settings)
        assert isinstance(learner, Learner)
        return learner

    @property
    def name(self) -> str:
        """The class, for messages."""
        return type(self.learner).__name__

    @cached_property
    def data(self) -> CondensedDataset:
        """The training data: some transitions, or whole episodes if the learner takes those."""
        sample = sample_data() if self.discrete else sample_box_data()
        data = make_method("random").condense(sample, task=self.task, budget=40)
        if not self.learner.missing(data.provides(), self.task):
            return data
        return make_method("full").condense(sample, task=self.task, budget=len(sample))

    @cached_property
    def data_sha256(self) -> str:
        """The sha256 of the data before anything was trained."""
        return sha256_arrays(self.data.arrays())

    @cached_property
    def frames(self) -> npt.NDArray[Any]:
        """The observations for the policies."""
        return (sample_data() if self.discrete else sample_box_data()).observations[:FRAMES]

    def fit(self, seeds: Sequence[int] = (0, 1), progress: Progress = silent) -> PolicyBatch:
        """Train on the sample."""
        self.data_sha256  # noqa: B018  taken before the first time
        with contained(self.traces):
            return self.learner.fit(self.data, task=self.task, seeds=seeds, progress=progress)

    @cached_property
    def watched(self) -> Trial[PolicyBatch]:
        """The policies of seeds 0 and 1, and the side effects of training them."""
        self.data_sha256, self.learner  # noqa: B018  made before anything is watched
        return watch(lambda progress: self.fit(progress=progress), self.task)

    @property
    def policies(self) -> PolicyBatch:
        """The policies of seeds 0 and 1."""
        return self.watched.result

    def noise(self) -> npt.NDArray[np.float64]:
        """Noise for an action on each frame."""
        shape = (FRAMES, *(self.task.action_space.shape or ()))
        return np.linspace(0, 0.999, int(np.prod(shape))).reshape(shape)

    def probs(self, policies: PolicyBatch, policy: int) -> npt.NDArray[Any]:
        """Return the distributions of one policy on the frames, or its continuous actions."""
        if self.discrete:
            return policies.action_probs(self.frames, np.full(FRAMES, policy))
        return policies.act(self.frames, np.full(FRAMES, policy), self.noise())


def learner_checks(entry: Entry) -> list[Check]:
    """Return the checks of one learner."""
    return bind(CHECKS, Subject(entry))


def id_follows_the_grammar(s: Subject) -> None:
    """The id is [namespace/]name[-vN]."""
    check_id(s.entry)


def says_what_it_is(s: Subject) -> None:
    """Requirements, kinds of action and of label are declared in known words."""
    learner = s.learner
    known = {*COLUMNS, "next_observations", "episodes"}
    if unknown := set(learner.requires) - known:
        raise CheckFailed(f"{s.name}.requires has {sorted(unknown)}; known are {sorted(known)}")
    for name, kinds in (("action_kinds", ACTION_KINDS), ("label_kinds", LABEL_KINDS)):
        said = getattr(learner, name)
        if not said or isinstance(said, str) or set(said) - set(kinds):
            raise CheckFailed(f"{s.name}.{name} is {said!r}; name some of {', '.join(kinds)}")
    if learner.action_selection not in ACTION_SELECTIONS:
        raise CheckFailed(
            f"{s.name}.action_selection is {learner.action_selection!r}; say 'sample' or 'greedy'"
        )
    if missing := learner.missing(s.data.provides(), s.task):
        raise CheckFailed(f"{s.name} lacks {', '.join(missing)} in whole episodes of a task")


def config_is_frozen(s: Subject) -> None:
    """Config is a frozen dataclass with defaults."""
    check_config_frozen(s.entry.load().Config, s.entry.load().__name__)


def config_survives_json(s: Subject) -> None:
    """Config comes back from JSON as it was."""
    check_config_json(s.learner.config, s.name)


def presets_can_be_made(s: Subject) -> None:
    """Each preset has known settings."""
    check_presets(s.entry, Learner)


def unknown_settings_are_refused(s: Subject) -> None:
    """A setting that does not exist is refused."""
    check_unknown_key(s.learner.Config, s.name)


def there_is_a_policy_for_each_seed(s: Subject) -> None:
    """fit gives one policy for each learner seed, and names the seeds."""
    if (s.policies.num_policies, tuple(s.policies.seeds)) != (2, (0, 1)):
        raise CheckFailed(
            f"seeds (0, 1) gave {s.policies.num_policies} policies of seeds {s.policies.seeds}"
        )


def actions_fit_the_task(s: Subject) -> None:
    """Policies give distributions, and actions of the task."""
    if not s.discrete:
        _check_continuous(s)
        return
    probs = s.probs(s.policies, 0)
    n = int(s.task.action_space.n)  # type: ignore[attr-defined]
    if probs.shape != (FRAMES, n):
        raise CheckFailed(f"action_probs gives {probs.shape}, not {(FRAMES, n)}")
    if not np.isfinite(probs).all() or probs.min() < 0 or not np.allclose(probs.sum(1), 1):
        raise CheckFailed("each row of action_probs must be a distribution: positive, summing to 1")
    actions = s.policies.act(s.frames, np.zeros(FRAMES, int), np.linspace(0, 0.999, FRAMES))
    if actions.shape != (FRAMES,) or actions.dtype.kind not in "iu":
        raise CheckFailed(f"act gives {actions.dtype} {actions.shape}, not whole numbers (B,)")
    if actions.min() < 0 or actions.max() >= n:
        raise CheckFailed(f"act gives actions outside 0..{n - 1}")


def _check_continuous(s: Subject) -> None:
    space = s.task.action_space
    assert isinstance(space, Box)
    actions = s.policies.act(s.frames, np.zeros(FRAMES, int), s.noise())
    if actions.shape != (FRAMES, *space.shape) or actions.dtype != np.float32:
        raise CheckFailed(f"act gives {actions.dtype} {actions.shape}, not float32 (B, A)")
    if (
        not np.isfinite(actions).all()
        or (actions < space.low).any()
        or (actions > space.high).any()
    ):
        raise CheckFailed("act gives actions outside the action space: clip them")


def the_same_seed_gives_the_same_policy(s: Subject) -> None:
    """Two trainings from one seed act alike to the bit."""
    again = s.fit()
    if any(not np.array_equal(s.probs(again, i), s.probs(s.policies, i)) for i in (0, 1)):
        raise CheckFailed("two trainings from one seed differ: draw everything from the seed")


def another_seed_gives_another_policy(s: Subject) -> None:
    """Seeds are replicates: two of them give different policies."""
    if np.array_equal(s.probs(s.policies, 0), s.probs(s.policies, 1)):
        raise CheckFailed("seeds 0 and 1 give the same policy: initialise and shuffle by the seed")


def a_policy_depends_on_its_own_seed_alone(s: Subject) -> None:
    """A policy does not depend on the policies trained beside it."""
    if not np.array_equal(s.probs(s.fit([1]), 0), s.probs(s.policies, 1)):
        raise CheckFailed(
            "seed 1 alone gives another policy than beside seed 0: give each seed a generator of "
            "its own"
        )


def an_action_depends_on_its_own_observation_alone(s: Subject) -> None:
    """An action does not depend on the other observations of the batch."""
    noise = s.noise()
    together = s.policies.act(s.frames, np.zeros(FRAMES, int), noise)
    for i in (0, FRAMES // 2, FRAMES - 1):
        alone = s.policies.act(s.frames[i : i + 1], np.zeros(1, int), noise[i : i + 1])
        if not np.allclose(alone[0], together[i], atol=1e-5):
            raise CheckFailed("an observation alone gets another action than in a batch")


def global_randomness_is_left_alone(s: Subject) -> None:
    """The global random states of random, numpy and torch stay as they were."""
    s.policies.num_policies  # noqa: B018  trains
    s.traces.check_state()


def the_data_is_left_alone(s: Subject) -> None:
    """The condensed dataset is not written to."""
    before = s.data_sha256
    s.fit([0])
    if sha256_arrays(s.data.arrays()) != before:
        raise CheckFailed(
            "it changed the data: copy the rows first (torch.from_numpy shares their memory)"
        )


def no_files_are_left(s: Subject) -> None:
    """Nothing is left in the working folder or among temporary files, interrupted or not."""
    s.policies.num_policies  # noqa: B018  trains
    with contextlib.suppress(KeyboardInterrupt, Exception):
        s.fit(progress=cancel)
    s.traces.check_files()


def no_environments_are_made(s: Subject) -> None:
    """Training steps no environment, of either split."""
    if not s.discrete:
        raise CheckSkipped("environments of continuous actions cannot be watched")
    if s.watched.environments:
        raise CheckFailed("it made an environment: a learner sees the condensed data only")


def what_is_saved_comes_back(s: Subject) -> None:
    """Saved and loaded, networks act as before."""
    if not isinstance(s.policies, NetworkPolicies):
        raise CheckSkipped("its policies are no NetworkPolicies")
    with tempfile.TemporaryDirectory() as name:
        s.policies.save(Path(name))
        again = load_policies(Path(name))
    if not np.array_equal(s.probs(again, 1), s.probs(s.policies, 1)):
        raise CheckFailed("saved and loaded, the policies act differently")


def a_fresh_process_gives_the_same_policy(s: Subject) -> None:
    """A new interpreter, where CUDA may not be touched, trains the same policy."""
    elsewhere = in_a_fresh_process(s.entry, "rlcondense.checks.learners:probs_sha256")
    if elsewhere != _sha256(s):
        raise CheckFailed("a fresh process trains another policy: depend on data and seeds only")


def probs_sha256(entry: Entry) -> str:
    """Return the sha256 of policies trained on the sample, for another process to compare."""
    return _sha256(Subject(entry))


def _sha256(s: Subject) -> str:
    return sha256_arrays({str(i): s.probs(s.policies, i) for i in (0, 1)})


def progress_is_reported(s: Subject) -> None:
    """Progress is reported in work that takes longer than three seconds."""
    check_progress(s.watched)


def ctrl_c_is_let_through(s: Subject) -> None:
    """Ctrl-C ends it."""
    check_cancellation(lambda progress: s.fit(progress=progress))


def there_are_no_warnings(s: Subject) -> None:
    """It warns of nothing."""
    check_warnings(s.watched)


CHECKS = (
    id_follows_the_grammar,
    says_what_it_is,
    presets_can_be_made,
    config_is_frozen,
    config_survives_json,
    unknown_settings_are_refused,
    there_is_a_policy_for_each_seed,
    actions_fit_the_task,
    the_same_seed_gives_the_same_policy,
    another_seed_gives_another_policy,
    a_policy_depends_on_its_own_seed_alone,
    an_action_depends_on_its_own_observation_alone,
    global_randomness_is_left_alone,
    the_data_is_left_alone,
    no_files_are_left,
    no_environments_are_made,
    what_is_saved_comes_back,
    a_fresh_process_gives_the_same_policy,
    progress_is_reported,
    ctrl_c_is_let_through,
    there_are_no_warnings,
)
