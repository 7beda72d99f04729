"""Do students of the mean absolute error look? What each gives its likeliest action on average.

A student that is certain of one action whatever it sees prints 1; one that is certain of different
actions on different frames prints less.

They learn from 150 real frames, equally many of each action, which the synthetic sets of the paper
do not differ from once they are rounded to pixels.

    python baselines/light2024/saturation.py    # a few minutes
"""

from __future__ import annotations

import numpy as np
import torch

import rlcondense as rlc
from rlcondense.policies import NetworkPolicies

STUDENTS, FRAMES = 10, 200
PAPER = {"network": "cnn4", "input": "raw", "learning_rate": 5e-3, "batch_size": 15, "updates": 100}


def main() -> None:
    """Print for each game what each student gives its likeliest action, on average over frames."""
    torch.set_num_threads(1)
    for game in ("bigfish", "jumper", "starpilot"):
        task = rlc.make_task(f"{game}-light2024")
        dataset = rlc.load_dataset(f"procgen/{game}-light2024/expert-v0")
        method = rlc.make_method("random-balanced")
        data = method.condense(dataset, task=task, budget=150, seed=0)
        learner = rlc.make_learner("bc", task, loss="softmax-mae", **PAPER)
        policies = learner.fit(data, task=task, seeds=range(STUDENTS))
        assert isinstance(policies, NetworkPolicies)
        rows = np.linspace(0, len(dataset) - 1, FRAMES).astype(int)
        frames = np.ascontiguousarray(dataset.observations[rows])
        means = [
            policies.action_probs(frames, np.full(FRAMES, student)).mean(0)
            for student in range(STUDENTS)
        ]
        text = ", ".join(f"{mean.argmax()}: {mean.max():.2f}" for mean in means)
        print(f"{game}: {text}", flush=True)


if __name__ == "__main__":
    main()
