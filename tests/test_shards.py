"""A comparison split over executors: the same table to the bit, whoever computes, and nothing lost with a worker."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.hmix import HMix
from msda_theory.pairs import tile_starts
from msda_theory.shards import split

SHAPE, M = (4, 4), 150  # three tiles
OPTIONS = {"law": ("exact", "paper"), "at": ("data", "mean", "mask"), "draws": 6, "kink": 0.25}


def models():
    def net(activation):
        layers = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), activation(), nn.Flatten(), nn.Linear(80, 3)
        return naive.randomize(nn.Sequential(*layers), 1, gain=2.0)

    return {"softplus": net(nn.Softplus), "relu": net(nn.ReLU)}


def data():
    x, y = naive.images(M, 2, SHAPE, 3, seed=3)
    return ImageData(x, y, 3)


def table(executor: Executor | None = None, nets=None, **options):
    options = {**OPTIONS, **options}
    strategies = [CutMix(), HMix()]
    return compare(nets or models(), data(), strategies, rng=np.random.default_rng(4), executor=executor, **options)


@pytest.fixture(scope="module")
def alone():
    return table()


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield client


def test_processes_give_the_table_of_one(alone):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert table(pool).rows == alone.rows


def test_threads_give_the_table_of_one(alone):
    with ThreadPoolExecutor(2) as pool:
        assert table(pool).rows == alone.rows


def test_threads_agree_on_a_network_with_attention():
    """Attention has several kernels, and tracing chooses one for the whole process."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = encoder, nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.encoder(x.flatten(2)[:, :, :8].reshape(len(x), 2, 8)).mean(dim=1))

    nets = {"tokens": naive.randomize(Tokens(), 2, gain=2.0)}
    with ThreadPoolExecutor(4) as pool:
        assert table(pool, nets).rows == table(nets=nets).rows


def test_a_dask_cluster_gives_the_table_of_one(alone, cluster):
    assert table(cluster.get_executor()).rows == alone.rows


def test_a_killed_worker_loses_nothing(alone, cluster, tmp_path):
    """The first worker that computes kills itself in the middle; the others do its work."""
    main, flag = os.getpid(), str(tmp_path / "killed")

    class Fatal(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            import os
            import signal
            from pathlib import Path

            if os.getpid() != main and not Path(flag).exists():
                Path(flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return self.inner(x)

    nets = {name: Fatal(net).eval() for name, net in models().items()}
    rows = table(cluster.get_executor(), nets).rows
    assert os.path.exists(flag)  # noqa: PTH110
    assert rows == alone.rows


def test_the_measured_loss_of_dense_terms_is_split_too():
    nets = {"relu": models()["relu"]}
    options = {"nets": nets, "law": "exact", "at": "data", "method": "dense", "kink": None}
    with ThreadPoolExecutor(2) as pool:
        assert table(pool, **options).rows == table(**options).rows


def test_threads_of_torch_do_not_change_the_table_and_stay_as_they_were(alone):
    """A shard computes with the caller's number of threads, wherever it runs."""
    before = torch.get_num_threads()
    seen = []

    class Recorder(Executor):
        def submit(self, function, /, *args, **kwargs):
            torch.set_num_threads(before + 1)
            future: Future = Future()
            future.set_result(function(*args, **kwargs))
            seen.append(torch.get_num_threads())
            torch.set_num_threads(before)
            return future

    assert table(Recorder()).rows == alone.rows
    assert set(seen) == {before + 1}
    assert len(seen) == 2 * 2 * 3  # models, strategies, tiles
    assert torch.get_num_threads() == before


def test_an_error_of_a_shard_ends_the_comparison():
    class Failing(Executor):
        def submit(self, function, /, *args, **kwargs):
            future: Future = Future()
            future.set_exception(RuntimeError("out of memory"))
            return future

    with pytest.raises(RuntimeError, match="out of memory"):
        table(Failing())


def test_what_is_no_executor_is_refused():
    with (
        naive.as_users_run_it(),
        pytest.raises(TypeError, match=r"expected a concurrent\.futures executor, got int; for"),
    ):
        table(4)


def test_other_seeds_give_other_tables(alone):
    other = compare(models(), data(), [CutMix(), HMix()], rng=np.random.default_rng(5), **OPTIONS)
    assert other.rows != alone.rows


@pytest.mark.parametrize(
    ("number", "parts", "lengths"), [(5, 2, [3, 2]), (3, 8, [1, 1, 1]), (4, 1, [4]), (9, 4, [3, 3, 3])]
)
def test_split_into_runs(number, parts, lengths):
    runs = split(range(number), parts)
    assert [len(r) for r in runs] == lengths
    assert [start for run in runs for start in run] == list(range(number))


def test_the_data_has_several_tiles():
    assert len(tile_starts(data())) == 3
