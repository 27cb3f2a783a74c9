"""Which strategy trains the best classifier? (Claims C9, C6 and, for the gain over no mixing, C4.)

Every strategy x data set x seed, with everything else equal: initial weights, order of images, crops and flips depend
on the seed alone, so that differences between strategies are taken within seeds. ``--protocol cpu`` (record
``accuracy.json``): a small residual network on parts of CIFAR-10 and Fashion-MNIST, hours on one core. ``--protocol
gpu`` (``accuracy_gpu.json``): PreActResNet-18 and WideResNet-28-2 on CIFAR-100, on a GPU. ``--protocol imagenet``
(``accuracy_imagenet.json``): ResNet-50 on pictures in folders, on several GPUs; see the README for its cost.
Data under the folder that the environment variable MSDA_DATA names.

Expected, as the paper states: mixing is better than none, and HMix and GMix are better than Mixup and CutMix. Both are
reported as verdicts with intervals, not as checks; a check fails only where a network has not learned its task.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import accuracy_stats
from experiments.record import RESULTS, cached, check, code_digest, finish, weights_digest
from experiments.run_config import RunConfig
from experiments.sweep import USUAL, Grid, run_all, summary
from experiments.train import Execution

STRATEGIES = ("vanilla", "mixup", "cutmix", "choice", "hmix", "gmix")
GPU_RUN = RunConfig(epochs=60, precision="bfloat16", evaluate_every=10)
IMAGENET_RUN = RunConfig(
    size=224, epochs=100, batch=1024, lr=0.4, weight_decay=1e-4, warmup=5.0, precision="bfloat16", evaluate_every=5
)
CPU_RUN = RunConfig(
    images=2000, epochs=100, lr=0.2, precision="bfloat16", evaluate_every=20,
)  # fmt: skip
PROTOCOLS: dict[str, Grid] = {
    "cpu": Grid(data=("cifar10", "fashion_mnist"), strategies=STRATEGIES, seeds=(0, 1, 2, 3), run=CPU_RUN),
    "gpu": Grid(("cifar100",), ("preactresnet18", "wideresnet28"), STRATEGIES, (0, 1, 2), run=GPU_RUN),
    "imagenet": Grid(("folder:imagenet",), ("resnet50",), STRATEGIES, (0,), run=IMAGENET_RUN),
}


@dataclass(frozen=True)
class Config:
    """The protocol, and how far above chance every network must be.

    Attributes:
        protocol: cpu, gpu or imagenet.
        over_chance: every network's test accuracy is at least this many times that of guessing.
    """

    protocol: str = "cpu"
    over_chance: float = 3.0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"expected protocol among {list(PROTOCOLS)}, got {self.protocol!r}; choose one of them.")

    @property
    def record(self) -> str:
        """Name of the record."""
        return "accuracy" if self.protocol == "cpu" else f"accuracy_{self.protocol}"

    def runs(self) -> list[RunConfig]:
        """All runs; seeds vary slowest."""
        return PROTOCOLS[self.protocol].runs()


def run(
    config: Config,
    how: Execution | None = None,
    *,
    jobs: int | None = 1,
    dask: str | None = None,
    retry: bool = False,
    folder: Path = RESULTS,
) -> dict[str, Any]:
    """Train what is not trained yet, and compare.

    Raises:
        RuntimeError: if a run failed.
    """
    how = how or Execution(folder / "runs")
    outcome = run_all(config.runs(), how, jobs=jobs, dask=dask, retry=retry)
    if outcome.failures:
        name, text = next(iter(outcome.failures.items()))
        raise RuntimeError(
            f"expected every run to finish, {len(outcome.failures)} failed, the first {name} ({text}); see their "
            "failure.json and pass --retry."
        )
    grid = asdict(PROTOCOLS[config.protocol])
    return cached(
        folder / f"{config.record}.json",
        {**asdict(config), "run": grid.pop("run"), "grid": grid},
        code_digest("accuracy.py", "accuracy_stats.py", package=()) + weights_digest(outcome.records),
        f"python -m experiments.accuracy --protocol {config.protocol}",
        lambda: _result(config, outcome.records),
        parts=outcome.records,
    )


def imagenet_command(strategy: str = "hmix") -> str:
    """The command of one run of the protocol for ImageNet, on eight GPUs, as a Markdown block."""
    run = next(r for r in Config("imagenet").runs() if r.strategy == strategy)
    options = run.options()
    lines = [
        "MSDA_DATA=/data torchrun --nproc-per-node 8 -m experiments.train",
        " ".join(options[: len(options) // 4 * 2]),
        " ".join([*options[len(options) // 4 * 2 :], "--workers 12", "--resume"]),
    ]
    return "```sh\n" + " \\\n    ".join(lines) + "\n```"


def _result(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    runs = [summary(r) for r in records]
    return {
        **accuracy_stats.summary(runs),
        "checks": [
            check(
                f"every network's test accuracy is at least {config.over_chance:g} times that of guessing",
                all(r["test_accuracy"] >= config.over_chance / r["classes"] for r in runs),
                f"lowest {100 * min(r['test_accuracy'] for r in runs):.1f} % of {len(runs)} networks",
            )
        ],
    }


def main(
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),
    how: Annotated[Execution, tyro.conf.arg(name="")] = USUAL,
    jobs: int | None = None,
    dask: str | None = None,
    retry: bool = False,
) -> None:
    """Train over processes of one thread each (one in all where there is a GPU) or on a Dask cluster, then compare.

    Args:
        config: what to train.
        how: how each is run.
        jobs: processes.
        dask: address of a scheduler, instead of processes.
        retry: run again what failed before.
    """
    finish(run(config, how, jobs=jobs, dask=dask, retry=retry))


if __name__ == "__main__":
    tyro.cli(main)
