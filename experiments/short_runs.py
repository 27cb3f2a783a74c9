"""Short training runs in memory, by the trainer of `experiments.train`: for studies that need many small networks."""

from __future__ import annotations

import torch

from experiments.images import DataSet
from experiments.networks import Normalised
from experiments.processes import Processes
from experiments.run_config import RunConfig
from experiments.trainer import Trainer

ALONE = Processes(0, 1, torch.device("cpu"))
SOURCES = ("short_runs.py", "trainer.py", "optim.py", "batches.py", "networks.py", "run_config.py")


def train_in_memory(config: RunConfig, data: DataSet) -> Normalised:
    """The network of images in [0, 1] that ``config`` makes of ``data``, in float64 and eval mode; nothing is written.

    Equal seeds have equal initial weights, batches and partners whatever the strategy. ``config.data`` and the sizes
    beside it are not read.

    Raises:
        FloatingPointError: if the loss or a weight is no longer finite.
    """
    trainer = Trainer(config, data, ALONE)
    for epoch in range(1, config.epochs + 1):
        trainer.run_epoch(lambda: None)
        if not trainer.finite():
            raise FloatingPointError(f"{config.strategy} on {data.name} diverged in epoch {epoch}; lower lr.")
        trainer.end_epoch(evaluated=False)
    model = trainer.result.double().eval()
    assert isinstance(model, Normalised)
    return model
