from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.config import config_json, make_config
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.learners.bc import BCConfig
from rlcondense.make import make_learner, make_method, recorded_learner, recorded_method
from rlcondense.training.ppo import PPOConfig


def test_numbers_of_numpy_are_taken_for_what_they_are() -> None:
    learner = make_learner("bc", updates=np.int64(7), learning_rate=np.float32(0.5))
    assert (learner.config.updates, learner.config.learning_rate) == (7, 0.5)
    assert type(learner.config.updates) is int
    with pytest.raises(BadConfig, match="must be int"):
        make_learner("bc", updates=np.float32(7.5))


@pytest.mark.parametrize("group", ["methods", "learners"])
def test_every_config_survives_json(group: str) -> None:
    for entry in catalogue.entries(group).values():
        config = entry.load().Config()
        again = make_config(type(config), json.loads(json.dumps(asdict(config))), "x")
        assert again == config


def test_strings_become_the_types_of_the_fields() -> None:
    config = make_config(
        BCConfig, {"updates": "7", "learning_rate": "1e-3", "batch_size": "none"}, "x"
    )
    assert (config.updates, config.learning_rate, config.batch_size) == (7, 1e-3, None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("update", "7", "has no setting 'update' .did you mean 'updates'"),
        ("updates", "seven", "'updates' of learner must be int, not 'seven'"),
        ("updates", 1.5, "must be int, not 1.5"),
        ("updates", "0", "updates must be above 0"),
        ("learning_rate", "nan", "must be float, not 'nan'"),
        ("batch_size", "many", "must be int or none, not 'many'"),
        ("network", "resnet", "unknown network .resnet. .known: cnn4"),
    ],
)
def test_a_bad_setting_names_itself_and_the_way_out(key: str, value: object, message: str) -> None:
    with pytest.raises(RLCondenseError, match=message):
        make_config(BCConfig, {key: value}, "learner")


def test_a_setting_that_came_later_is_said_where_it_says_something() -> None:
    """What was computed before there was such a setting keeps its name."""
    usual = config_json(BCConfig())
    assert not {"init", "gradient_clip", "standardise"} & usual.keys()
    assert usual["learning_rate"] == 5e-4
    set_ = config_json(BCConfig(init="dataset", gradient_clip=0.5))
    assert set_ == {**usual, "init": "dataset", "gradient_clip": 0.5}
    assert make_config(BCConfig, set_, "x") == BCConfig(init="dataset", gradient_clip=0.5)


def test_a_recorded_setting_is_not_the_entrys_own() -> None:
    """JSON leaves out a default of the class, and the entry has another one."""
    plain = make_method("discounted-return", gamma=1.0)
    recorded = config_json(plain.config)
    assert make_method("discounted-return", **recorded).config.gamma != 1.0
    assert recorded_method("discounted-return", recorded).config == plain.config
    assert recorded_learner("bc", config_json(BCConfig())).config == BCConfig()


def test_every_setting_of_gradmatch_is_within_reach() -> None:
    settings = {
        "network": "cnn4",
        "iterations": 5,
        "learning_rate": 2.0,
        "real_batch": 8,
        "labels": "soft",
    }
    method = make_method("gradmatch", **settings)
    assert asdict(method.config).items() >= settings.items()


@pytest.mark.parametrize("value", [None, "none"])
def test_none_is_none_where_a_setting_may_be_text(value: str | None) -> None:
    assert make_config(BCConfig, {"activation": value}, "x").activation is None
    assert make_config(PPOConfig, {"potential": value}, "x").potential is None
