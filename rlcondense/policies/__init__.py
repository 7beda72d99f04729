"""Policies that act in batches of environments."""

from rlcondense.policies.base import (
    ACTION_SELECTIONS,
    Player,
    PolicyBatch,
    noise_stream,
    normal,
    num_actions_of,
    sample_actions,
)
from rlcondense.policies.fixed import (
    FixedPolicies,
    GaussianPolicies,
    UniformPolicies,
    constant_policies,
    marginal_policies,
    random_policies,
)
from rlcondense.policies.networks import (
    NetworkPolicies,
    check_fits,
    head_of,
    load_policies,
    network_from_arrays,
    spec_from_json,
)

__all__ = [
    "ACTION_SELECTIONS",
    "FixedPolicies",
    "GaussianPolicies",
    "NetworkPolicies",
    "Player",
    "PolicyBatch",
    "UniformPolicies",
    "check_fits",
    "constant_policies",
    "head_of",
    "load_policies",
    "marginal_policies",
    "network_from_arrays",
    "noise_stream",
    "normal",
    "num_actions_of",
    "random_policies",
    "sample_actions",
    "spec_from_json",
]
