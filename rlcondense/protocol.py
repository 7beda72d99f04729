"""Evaluation protocol: the number of environments, and of episodes in each."""

from __future__ import annotations

from dataclasses import dataclass

from rlcondense.limits import check_count

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Protocol:
    """Protocol of an evaluation.

    Attributes:
        environments: E, parallel environments of each policy.
        quota: episodes each environment plays.
        seed: seed of the levels and of the policies' noise.
    """

    environments: int = 50
    quota: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("environments", self.environments, bound="num_envs")
        check_count("quota", self.quota, bound="episodes")
        check_count("episodes", self.episodes)
        check_count("evaluation's seed", self.seed, least=0)

    @property
    def episodes(self) -> int:
        """Number of episodes of each policy on each split."""
        return self.environments * self.quota


def protocol_of(episodes: int, seed: int = 0) -> Protocol:
    """Make the protocol of a number of episodes, with up to 50 environments that divide it evenly.

    Raises:
        BadConfig: fewer than one episode, or more than `limits` allow.
    """
    check_count("episodes", episodes)
    environments = max(e for e in range(1, min(50, episodes) + 1) if episodes % e == 0)
    return Protocol(environments, episodes // environments, seed)
