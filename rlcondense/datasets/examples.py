"""Examples that train a network on exported data with PyTorch and the format's own library."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlcondense.datasets.parquet import are_pictures
from rlcondense.types import Array

# The first lines of an example, by format: they make `data`, arrays by name.
_LOADERS = {
    "npz": 'import numpy as np\nimport torch\n\ndata = np.load("data.npz")',
    "hdf5": (
        "import h5py\nimport torch\n\n"
        'data = {name: column[:] for name, column in h5py.File("data.hdf5").items()}'
    ),
    "minari": (
        "import minari\nimport numpy as np\nimport torch\n\n"
        'episodes = list(minari.MinariDataset("data").iterate_episodes())\n'
        'data = {"observations": np.concatenate([e.observations[:-1] for e in episodes]),\n'
        '        "actions": np.concatenate([e.actions for e in episodes])}'
    ),
    "parquet": (
        "import numpy as np\nimport pyarrow.parquet\nimport torch\n\n"
        'table = pyarrow.parquet.read_table("data")\n'
        "data = {name: np.array(table[name].to_pylist()) for name in table.column_names}"
    ),
    "parquet of pictures": (
        "import io\n\nimport imageio.v3\nimport numpy as np\n"
        "import pyarrow.parquet\nimport torch\n\n"
        'table = pyarrow.parquet.read_table("data")\n'
        "data = {name: np.array(table[name].to_pylist()) for name in table.column_names}\n"
        'pictures = [imageio.v3.imread(io.BytesIO(p["bytes"])) for p in data["observations"]]\n'
        'data["observations"] = np.stack(pictures)'
    ),
}
_TRAINING = """
observations = torch.as_tensor(data["observations"]).reshape(len(data["observations"]), -1)
labels = {labels}
network = torch.nn.Sequential(
    torch.nn.Linear(observations.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, {outputs})
)
optimiser = torch.optim.Adam(network.parameters())
for _ in range(100):
    rows = torch.randint(len(observations), (64,))
    outputs = network(observations[rows].float(){scale})
    losses = torch.nn.functional.{loss}(outputs, labels[rows], reduction="none")
    loss = {mean}
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"loss {{loss.item():.3f}}")
"""


def example_of(
    form: str, columns: Mapping[str, Array], num_actions: int | None, labels: str = "soft"
) -> str:
    """Return an example that trains a small network on exported columns.

    Args:
        form: `npz`, `hdf5`, `minari` or `parquet`.
        columns: columns by formats' names.
        num_actions: number of discrete actions; None for continuous ones.
        labels: kind of the labels to learn, where there are both.
    """
    observations, actions = columns["observations"], columns["actions"]
    is_soft = labels == "soft" and "action_probs" in columns and form != "minari"
    kind = "torch.as_tensor(data[{name!r}]).float()"
    if num_actions is None:
        targets = kind.format(name="actions") + ".reshape(len(observations), -1)"
        loss, outputs = "mse_loss", math.prod(actions.shape[1:])
    elif is_soft:
        targets, loss, outputs = kind.format(name="action_probs"), "cross_entropy", num_actions
    else:
        targets, loss, outputs = 'torch.as_tensor(data["actions"])', "cross_entropy", num_actions
    weighted = 'losses.T * torch.as_tensor(data["weights"])[rows]'  # of one or more columns
    pictures = form == "parquet" and are_pictures(observations) and observations.dtype == "u1"
    training = _TRAINING.format(
        labels=targets.replace("'", '"'),
        outputs=outputs,
        loss=loss,
        scale=" / 255" if observations.ndim == 4 else "",
        mean=f"({weighted}).mean()" if "weights" in columns else "losses.mean()",
    )
    loader = _LOADERS["parquet of pictures" if pictures else form]
    return f'"""Train a network on these data."""\n\n{loader}{training}'
