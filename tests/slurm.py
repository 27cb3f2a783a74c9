"""Stands for dask-jobqueue where there is no Slurm: its cluster takes the same options, and runs on this machine."""

from __future__ import annotations

from types import ModuleType

from dask.distributed import LocalCluster
from dask.utils import parse_bytes


class SLURMCluster(LocalCluster):
    """The options of dask-jobqueue's class that the pages use, by name; no workers before `scale`, as there.

    Attributes:
        jobs: the most that were asked for; each would be ``processes`` workers, here all of them are one.
    """

    def __init__(self, *, cores: int, processes: int, memory: str, walltime: str) -> None:
        assert 1 <= processes <= cores
        assert parse_bytes(memory) > 0
        hours, minutes, seconds = walltime.split(":")
        assert int(hours) * 3600 + int(minutes) * 60 + int(seconds) > 0
        self.jobs = 0
        super().__init__(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None)

    def scale(self, n: int = 0, *, jobs: int = 0) -> None:
        """Ask for jobs (not in this stand-in: for single workers)."""
        assert n == 0
        self.jobs = max(self.jobs, jobs)  # closing scales to 0
        super().scale(min(jobs, 1))


def slurm_module() -> ModuleType:
    """What ``import dask_jobqueue`` finds."""
    module = ModuleType("dask_jobqueue")
    vars(module)["SLURMCluster"] = SLURMCluster
    return module
