"""The plan of a suite: the cells of every combination, each once, and their reference rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rlcondense import catalogue
from rlcondense.datasets.budget import Budget
from rlcondense.datasets.labels import TAUGHT, label_settings
from rlcondense.datasets.minari import is_local
from rlcondense.errors import BadConfig, MissingExtra, PluginLoadError, RLCondenseError, UnknownName
from rlcondense.files import canonical_json, plain
from rlcondense.learners.base import Learner
from rlcondense.make import (
    default_dataset,
    follows_learner,
    known_task,
    make_learner,
    make_method,
    make_task,
    named_dataset,
)
from rlcondense.methods.base import Method
from rlcondense.records.cell import Cell, budget_size, budget_text, learner_json, policy_cell
from rlcondense.records.record import MethodJson
from rlcondense.records.store import MISSING, StoredState
from rlcondense.references import RANDOM_SUBSET, WHOLE, methods_beside, policies_beside
from rlcondense.running.bench import expert_name, own_budget
from rlcondense.running.group import Group, is_unlabelled
from rlcondense.running.pairs import expected_regime, settings_of_paper
from rlcondense.running.planned import Planned
from rlcondense.running.suite import Choice, Product, Suite, resolved
from rlcondense.tasks.base import Task

Look = Callable[[Iterable[str]], Mapping[str, StoredState]]

_ABSENT = (MissingExtra, PluginLoadError, UnknownName)


def _nothing(ids: Iterable[str]) -> Mapping[str, StoredState]:
    """Look into an empty store."""
    return dict.fromkeys(ids, MISSING)


def plan_suite(suite: Suite, look: Look = _nothing) -> list[Planned]:
    """Plan every cell of a suite, each once, in the order of computation.

    Args:
        suite: what to combine.
        look: returns the stored states of cells by id, by default that nothing is there: the
            random subset beside a percentage has the size that the percentage came to.

    Raises:
        RLCondenseError: the suite asks for something impossible, such as an unknown setting.
    """
    return _Planner(suite, look).plan()


class _Planner:
    def __init__(self, suite: Suite, look: Look) -> None:
        self.suite, self.look = suite, look
        self.planned: dict[str, Planned] = {}
        self.excludes = [resolved(exclude) for exclude in suite.excludes]
        self.used_excludes: set[int] = set()
        self.left_out: dict[str, str] = {}  # tasks without any of a product's datasets
        self._made: dict[Any, Any] = {}
        self._beside: set[Any] = set()  # what the reference rows that were added are of
        self.method_keys = _differing(c for p in suite.products for c in p.methods)
        self.learner_keys = _differing(c for p in suite.products for c in p.learners)

    def plan(self) -> list[Planned]:
        groups: list[tuple[Group, list[tuple[Method[Any], Cell]]]] = []
        for product in self.suite.products:
            for group in self._groups(product):
                groups.append((group, self._method_cells(group)))
        planned_tasks = {planned.cell.task for planned in self.planned.values() if planned.cell}
        for task, reason in self.left_out.items():
            if task not in planned_tasks:
                self._add(Planned(task, skip=reason))
        for i, exclude in enumerate(self.suite.excludes):
            if i not in self.used_excludes and not self._names_absent(exclude):
                raise BadConfig(
                    f"suite {self.suite.name!r} excludes {exclude}, which is no cell of its methods"
                )
        if self.suite.references == "all":
            states = self.look([cell.id for _, cells in groups for _, cell in cells])
            for group, cells in groups:
                self._add_references(group, cells, states)
        if not any(planned.cell for planned in self.planned.values()):
            reasons = dict.fromkeys(p.absent or p.skip for p in self.planned.values())
            why = "; ".join(reasons) or "its excludes leave no cell"
            raise BadConfig(f"nothing of suite {self.suite.name!r} can be computed: {why}")
        return list(self.planned.values())

    def _names_absent(self, exclude: Mapping[str, Any]) -> bool:
        """Return whether an exclude names a part of the suite that is not installed."""
        words = {word for planned in self.planned.values() if planned.absent
                 for word in planned.text.split()}  # fmt: skip
        return any(str(value) in words for value in exclude.values())

    def _add(self, planned: Planned) -> None:
        key = planned.id or f"{planned.text} {planned.after}"
        self.planned.setdefault(key, planned)

    def _groups(self, product: Product) -> Iterator[Group]:
        matched: set[str] = set()
        for name in product.tasks:
            try:
                task = self._once("task", name, lambda name=name: make_task(name))
            except _ABSENT as error:
                self._add(Planned(name, absent=str(error)))
                continue
            for dataset in self._datasets(product, task, matched):
                for choice in product.learners:
                    try:
                        learners = self._learners(choice, product, task)
                    except _ABSENT as error:
                        self._add(Planned(f"{task.id} {choice.id}", absent=str(error)))
                        continue
                    for learner, methods in learners:
                        of_learner = replace(product, methods=methods)
                        group = Group(task, dataset, learner, choice, of_learner)
                        if self.suite.references != "none":
                            self._add_policies(group)
                        yield group
        if unmatched := [d for d in product.datasets if d not in matched]:
            raise BadConfig(f"dataset {unmatched[0]!r} is of none of the tasks {product.tasks}")

    def _datasets(self, product: Product, task: Task, matched: set[str]) -> Iterator[str]:
        """Yield the ids of the datasets of a task."""
        if not product.datasets:
            try:
                yield default_dataset(task)
            except BadConfig:
                if self._takes_data(product, task):
                    absent = f"no dataset is shipped for task {task.id!r}"
                    self._add(Planned(task.id, absent=absent))
                else:
                    yield ""
        others: dict[str, str] = {}  # the tasks of datasets that belong to another task
        for source in product.datasets:
            name = named_dataset(source, task.id)
            matched |= {source} if name != source else set()
            own = name if "/" in name else f"{catalogue.unversioned(task.id)}/{name}"
            try:
                entry = _dataset_named(own, name)
            except UnknownName as error:
                matched.add(name)
                if local := next(filter(is_local, dict.fromkeys((own, name))), ""):
                    yield local
                else:
                    self._add(Planned(f"{task.id} {name}", absent=str(error)))
                continue
            if (own_task := known_task(entry) or task.id) == task.id:
                matched.add(name)
                yield entry.id
            else:
                others[entry.id] = str(own_task)
        if product.datasets and len(others) == len(product.datasets):
            reasons = ", ".join(f"{name} is of {own_task}" for name, own_task in others.items())
            self.left_out[task.id] = f"none of the suite's datasets is of it: {reasons}"

    def _takes_data(self, product: Product, task: Task) -> bool:
        """Return whether a method of a product condenses a dataset, instead of making one."""
        for choice in product.methods:
            try:
                if catalogue.find("methods", choice.id).load().takes_data:
                    return True
            except _ABSENT:
                continue
        return False

    def _method_cells(self, group: Group) -> list[tuple[Method[Any], Cell]]:
        method_cells = []
        for choice in group.product.methods:
            try:
                method = self._method(choice, group.task, group.learner)
            except _ABSENT as error:
                text = f"{group.task.id} {choice.id} {group.learner.id}"
                self._add(Planned(text, absent=str(error)))
                continue
            provided = group.learner.requires if method.gives is None else method.gives
            missing = group.learner.missing(provided, group.task)
            seeds = range(group.product.condensation_seeds if method.stochastic else 1)
            for budget in self._budgets(choice, group.product):
                for cell in group.cells(method, budget, seeds):
                    if self._excluded(cell):
                        continue
                    skip = f"needs {', '.join(missing)}" if missing else ""
                    text = self._text(group, cell, choice)
                    self._add(Planned(text, cell, skip=skip, shard_key=cell.condensation_id))
                    if not skip:
                        method_cells.append((method, cell))
        return method_cells

    def _budgets(self, choice: Choice, product: Product) -> list[Budget]:
        default = own_budget(choice.id)
        if choice.percent is not None:
            unit = choice.unit or default.get("unit", "transitions")
            return [Budget(percent=choice.percent, unit=unit)]
        if choice.bytes is not None:
            return choice.byte_budgets
        if choice.sizes is None and "percent" in default:
            return [Budget(**default)]
        sizes = choice.sizes or product.sizes or (default.get("size", 150),)
        return [Budget(size=size) for size in sizes]

    def _excluded(self, cell: Cell) -> bool:
        assert cell.budget is not None
        assert cell.learner is not None
        names = {
            "task": cell.task,
            "dataset": cell.dataset,
            "method": cell.method["id"],
            "learner": cell.learner["id"],
            "size": budget_size(cell.budget),
        }
        matching = {
            i
            for i, exclude in enumerate(self.excludes)
            if all(names[key] == value for key, value in exclude.items())
        }
        self.used_excludes |= matching
        return bool(matching)

    def _add_policies(self, group: Group) -> None:
        available = ["dataset"] if group.dataset else []
        available += ["expert"] if expert_name(group.dataset, group.task) else []
        for name in policies_beside(group.learner.action_selection, available):
            method: MethodJson = {"id": name, "config": {}}
            cell = policy_cell(group.task.id, group.dataset, method, group.seeds, group.protocol)
            text = f"{self._place(group)} {name}"
            self._add(Planned(text, cell, shard_key=cell.condensation_id, is_reference=True))

    def _add_references(
        self, group: Group, cells: list[tuple[Method[Any], Cell]], states: Mapping[str, StoredState]
    ) -> None:
        """Plan random subsets of the same sizes and labels, and the full dataset."""
        for method, cell in cells if group.dataset else []:
            size, labels = self._kept(cell, method, group, states[cell.id])
            for name in methods_beside(method.id, group.learner):
                if name not in WHOLE:
                    for seed in range(group.product.condensation_seeds):
                        self._add_random(group, cell, size, labels, seed, states[cell.id].status)
                    continue
                if self._is_there(group, name, labels):
                    continue
                full = self._method(Choice(name, labels), group.task)
                [whole] = group.cells(full, Budget(percent=100.0), [0])
                text = self._text(group, whole, Choice(name))
                self._add(Planned(text, whole, shard_key=whole.condensation_id, is_reference=True))

    def _kept(
        self, cell: Cell, method: Method[Any], group: Group, state: StoredState
    ) -> tuple[int | None, Mapping[str, Any]]:
        """Return the size and labels of a cell's reference rows; hard without action_probs."""
        size, labels = _kept(cell, method, group, state)
        if labels["labels"] == "soft" and self._once(
            "unlabelled", group.dataset, lambda: is_unlabelled(group.dataset)
        ):
            text = f"{self._place(group)} random and full (soft labels)"
            self._add(Planned(text, skip="needs action_probs: hard labels stand in their place"))
            return size, {"labels": "hard"}
        return size, labels

    def _add_random(
        self,
        group: Group,
        source: Cell,
        size: int | None,
        labels: Mapping[str, Any],
        seed: int,
        status: str,
    ) -> None:
        """Plan the random rows beside a cell whose status is known."""
        assert source.budget is not None
        in_bytes = "bytes" in source.budget
        if size is None and not in_bytes:
            text = (
                f"{self._place(group)} random, as many as {source.method['id']} keeps "
                f"({budget_text(source.budget)}) {self._learner_text(group)} seed {seed}"
            )
            if status == "skipped":
                self._add(Planned(text, skip="the set that it stands beside is skipped"))
            else:
                self._add(Planned(text, after=source.id, shard_key=source.condensation_id))
            return
        asked = canonical_json(source.budget) if in_bytes else size
        if self._is_there(group, RANDOM_SUBSET, labels, asked, seed):
            return
        random = self._method(Choice(RANDOM_SUBSET, labels), group.task)
        budget = Budget(**source.budget) if in_bytes else Budget(size=size)
        [cell] = group.cells(random, budget, [seed])
        # A percentage's subset goes into the shard that computes what it comes to.
        own = "percent" not in source.budget
        key = cell.condensation_id if own else source.condensation_id
        text = self._text(group, cell, Choice(RANDOM_SUBSET))
        self._add(Planned(text, cell, shard_key=key, is_reference=True))

    def _is_there(self, group: Group, *what: Any) -> bool:
        """Return whether a reference row of a group was added before, and note that it is now."""
        key = (id(group), repr(what))
        known = key in self._beside
        self._beside.add(key)
        return known

    def _text(self, group: Group, cell: Cell, choice: Choice) -> str:
        """Describe a cell in words, with the settings that distinguish it within the suite."""
        settings = self._told(self.method_keys, choice)
        regime = cell.method["config"].get("labels")
        if regime in ("soft", TAUGHT) and "labels" not in settings:
            settings = f"{settings} ({regime} labels)"
        words = [self._place(group), f"{cell.method['id']}{settings}"]
        words += [budget_text(cell.budget)] if cell.budget is not None else []
        return " ".join([*words, self._learner_text(group), f"seed {cell.condensation_seed}"])

    def _place(self, group: Group) -> str:
        task = group.task.id
        return f"{task} {group.dataset}" if len(group.product.datasets) > 1 else task

    def _learner_text(self, group: Group) -> str:
        return f"{group.learner.id}{self._told(self.learner_keys, group.choice)}"

    def _told(self, keys: Mapping[str, set[str]], choice: Choice) -> str:
        settings = [f"{k}={v}" for k, v in choice.config.items() if k in keys.get(choice.id, ())]
        return f" ({', '.join(settings)})" if settings else ""

    def _method(
        self, choice: Choice, task: Task, learner: Learner[Any] | None = None
    ) -> Method[Any]:
        """Return a method for a task and, if it follows the learner, for that learner."""
        followed = learner if follows_learner(choice.config) else None
        followed_json = repr(learner_json(followed)) if followed is not None else ""
        key = ("method", choice.id, task.id, repr(sorted(choice.config.items())), followed_json)

        def make(name: str, task: Task, /, **settings: Any) -> Method[Any]:
            return make_method(name, task, followed, **settings)

        instance = self._once(*key, lambda: _made("methods", choice, task, make))
        assert isinstance(instance, Method)
        return instance

    def _learners(
        self, choice: Choice, product: Product, task: Task
    ) -> list[tuple[Learner[Any], tuple[Choice, ...]]]:
        """Return the learners that a choice stands for, each with its methods.

        A learner without settings of its own has those of a method's paper. One with settings has
        no others, where `run` adds its own to the paper's.
        """
        if choice.config or not product.methods:
            return [(self._learner(choice, task), product.methods)]
        methods: dict[str, list[Choice]] = {}
        settings: dict[str, Mapping[str, Any]] = {}
        for method in product.methods:
            of_paper: Mapping[str, Any] = {}
            if not follows_learner(method.config):
                with contextlib.suppress(*_ABSENT):  # reported where its cells are planned
                    of_paper = settings_of_paper(self._method(method, task), task, choice.id)
            key = canonical_json(plain(of_paper))
            settings[key] = of_paper
            methods.setdefault(key, []).append(method)
        return [
            (self._learner(replace(choice, config=settings[key]), task), tuple(alike))
            for key, alike in methods.items()
        ]

    def _learner(self, choice: Choice, task: Task) -> Learner[Any]:
        key = ("learner", choice.id, task.id, repr(sorted(choice.config.items())))
        instance = self._once(*key, lambda: _made("learners", choice, task, make_learner))
        assert isinstance(instance, Learner)
        return instance

    def _once(self, *key_and_make: Any) -> Any:
        """Return the object stored under a key, or make and store it. Failures are stored too."""
        *key, make = key_and_make
        if tuple(key) not in self._made:
            try:
                self._made[tuple(key)] = make()
            except RLCondenseError as error:
                self._made[tuple(key)] = error
            except Exception as error:  # an error of a plugin
                message = f"{' '.join(map(str, key[:2]))}: {type(error).__name__}: {error}"
                self._made[tuple(key)] = PluginLoadError(message)
        instance = self._made[tuple(key)]
        if isinstance(instance, RLCondenseError):
            raise instance
        return instance


def _dataset_named(own: str, name: str) -> catalogue.Entry:
    """Return the dataset of a task that ends in a name, or else the one of that name."""
    try:
        return catalogue.find("datasets", own)
    except UnknownName:
        if name in catalogue.entries("datasets"):
            return catalogue.find("datasets", name)
        raise


def _made(group: str, choice: Choice, task: Task, make: Callable[..., Any]) -> Any:
    """Make a part that a suite names; a wrong setting is an error, not an absent part."""
    catalogue.find(group, choice.id).load()
    try:
        return make(choice.id, task, **choice.config)
    except UnknownName as error:  # such as an unknown network
        raise BadConfig(f"{choice.id!r} in the suite: {error}") from error


def _differing(choices: Iterable[Choice]) -> dict[str, set[str]]:
    """Return the settings in which a suite's methods, or learners, of one id differ."""
    configs: dict[str, list[Mapping[str, Any]]] = {}
    for choice in choices:
        configs.setdefault(choice.id, []).append(choice.config)
    return {
        id_: {key for c in alike for key in c if any(o.get(key) != c[key] for o in alike)}
        for id_, alike in configs.items()
    }


def _kept(
    cell: Cell, method: Method[Any], group: Group, state: StoredState
) -> tuple[int | None, Mapping[str, Any]]:
    """Return the size and labels of a cell's set, from its record or else from its config."""
    if state.facts is not None:
        kind = state.facts["labels"] or "hard"
        return state.facts["size"], label_settings(cell.method["config"], kind)
    assert cell.budget is not None
    return budget_size(cell.budget), expected_regime(method, group.learner, group.task)
