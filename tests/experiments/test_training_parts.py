"""Parts of the trainer: strategies as text, learning rates, parameter groups, checkpoints, networks, run settings."""

from __future__ import annotations

import math
import shlex
import types
import warnings
from dataclasses import fields, replace

import pytest
import torch
import tyro
from torch import nn

import msda_theory as mt
from experiments.checkpoints import Checkpoint, Checkpoints
from experiments.models import NETWORKS, SMALL
from experiments.networks import Normalised, build, source
from experiments.optim import average, learning_rate, set_learning_rate, sgd
from experiments.processes import Processes, processes
from experiments.run_config import RunConfig
from experiments.strategies import strategy_from, with_alpha

ALONE = Processes(0, 1, torch.device("cpu"))


# --- strategies as text ----------------------------------------------------------------------------------------------

LAWS = [
    *(mt.strategy(name) for name in mt.strategies()),
    mt.Mixup(alpha=0.2),
    mt.CutMix(box="periodic", label="nominal"),
    mt.HMix(alpha=2.0, ratio=0.75),
    mt.GMix(alpha=1e-3),
    mt.Choice((mt.Mixup(alpha=0.8), mt.CutMix(), mt.HMix(ratio=0.2)), (0.2, 0.3, 0.5)),
    mt.Choice((mt.Mixup(),), (1.0,)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda s: s.name)
def test_the_name_of_a_strategy_is_the_text_that_makes_it(law):
    assert strategy_from(law.name) == law


@pytest.mark.parametrize("law", LAWS, ids=lambda s: s.name)
def test_alpha_reaches_every_member(law):
    changed = with_alpha(law, 0.3)
    members = changed.strategies if isinstance(changed, mt.Choice) else [changed]
    assert isinstance(law, mt.Vanilla) or {m.alpha for m in members} == {0.3}
    assert strategy_from(changed.name) == changed


@pytest.mark.parametrize("text", ["", "cutmix(", "cutmix(0.5)", "'cutmix'", "mixup+cutmix", "cutmix(**x)", "3", "a.b"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"expected a strategy among .*perhaps with options as in 'hmix"):
        strategy_from(text)


def test_unknown_strategies_and_options_are_named():
    with pytest.raises(ValueError, match=r"expected a strategy among .* got 'cutmx'"):
        strategy_from("cutmx")
    with pytest.raises(TypeError, match=r"hmix has the options .* got \['rate'\]"):
        strategy_from("hmix(rate=0.5)")


# --- learning rate and optimiser -------------------------------------------------------------------------------------


def test_the_cosine_schedule():
    rates = [learning_rate(s, peak=0.2, steps=100, warmup=10, schedule="cosine") for s in range(100)]
    assert rates[:10] == pytest.approx([0.02 * (k + 1) for k in range(10)])
    expected = [0.1 * (1 + math.cos(math.pi * k / 90)) for k in range(90)]
    assert rates[10:] == pytest.approx(expected)
    assert 0 < rates[-1] < 1e-4


def test_the_one_cycle_schedule_is_that_of_torch():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    steps, warmup = 50, 15
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps + 1, pct_start=(warmup + 1) / 51)
    rates = []
    for _ in range(steps):
        optimizer.step()
        theirs.step()
        rates.append(optimizer.param_groups[0]["lr"])
    ours = [learning_rate(s, peak=0.5, steps=steps, warmup=warmup, schedule="onecycle") for s in range(steps)]
    assert ours[:warmup] == pytest.approx(rates[:warmup])  # theirs starts one step earlier, at the low end
    assert max(ours) == 0.5
    assert ours[warmup] == 0.5
    assert sorted(ours[warmup:], reverse=True) == ours[warmup:]
    assert ours[-1] < 0.01


def test_a_constant_rate_and_a_schedule_without_warmup():
    assert learning_rate(0, peak=0.3, steps=5, warmup=0, schedule="constant") == 0.3
    assert learning_rate(0, peak=0.3, steps=5, warmup=0, schedule="cosine") == 0.3


def test_norms_and_biases_are_not_decayed():
    model = build("resnet8", classes=10, shape=(3, 8, 8), seed=0, width=4)
    optimizer = sgd(model, lr=0.1, momentum=0.9, weight_decay=0.01)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            plain = isinstance(module, nn.BatchNorm2d) or name == "bias"
            assert decay[id(p)] == (0.0 if plain else 0.01), (module, name)
    set_learning_rate(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.5}
    assert all(g["nesterov"] for g in optimizer.param_groups)


def test_the_average_of_weights_is_exponential():
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    mean = average(model, 0.9)
    expected = None
    for value in (1.0, 2.0, 5.0):
        with torch.no_grad():
            model.weight.fill_(value)
        mean.update_parameters(model)
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert mean.module.weight.item() == pytest.approx(expected)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def made(step: int) -> Checkpoint:
    tensors = {"w": torch.arange(6.0).reshape(2, 3) + step, "n": torch.tensor(step), "h": torch.ones(2).bfloat16()}
    return Checkpoint(step, tensors, {"curve": [{"loss": 0.1 * step}]})


def same(a: Checkpoint | None, b: Checkpoint) -> bool:
    if a is None or a.step != b.step or a.state != b.state or a.tensors.keys() != b.tensors.keys():
        return False
    return all(torch.equal(a.tensors[k], b.tensors[k]) and a.tensors[k].dtype == b.tensors[k].dtype for k in b.tensors)


def test_checkpoints_come_back_and_the_two_newest_stay(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    assert kept.newest() is None
    for step in (5, 7, 1000):
        kept.write(made(step))
    assert [p.name for p in kept.paths()] == ["checkpoint-000001000.safetensors", "checkpoint-000000007.safetensors"]
    assert same(kept.newest(), made(1000))
    (kept.folder / ".checkpoint-000001001.safetensors.abc.tmp").write_bytes(b"half")
    kept.clear()
    assert kept.newest() is None
    assert not list(kept.folder.iterdir())


def damaged(content: bytes) -> list[bytes]:
    """Cut at every kind of place, and one bit turned in length, header, state, digest and tensors."""
    cuts = [content[:n] for n in (0, 4, 8, 40, len(content) // 2, len(content) - 1)]
    spots = [0, 20, content.index(b"sha256") + 12, content.index(b"curve") + 12, len(content) - 3]
    return [*cuts, *(content[:k] + bytes([content[k] ^ 1]) + content[k + 1 :] for k in spots)]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.write(made(1))
    newest = kept.write(made(2))
    content = newest.read_bytes()
    for bad in damaged(content):
        newest.write_bytes(bad)
        with pytest.warns(UserWarning, match=r"checkpoint-000000002\.safetensors is damaged; the checkpoint before"):
            assert same(kept.newest(), made(1))
    newest.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(kept.newest(), made(2))


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.write(made(1)).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match=r"expected a whole checkpoint in .* got 1 damaged ones; delete them"),
    ):
        kept.newest()


def test_a_write_that_breaks_off_leaves_no_file(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.write(made(1))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        kept.write(made(2))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000000001.safetensors"]


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_fit_the_images_they_are_built_for(name):
    width = {"resnet8": 4, "vit": 24}.get(name, 4)
    shape = (1, 32, 32)
    model = build(name, classes=7, shape=shape, seed=0, width=None if name.startswith("wide") else width)
    before = torch.random.get_rng_state()
    again = build(name, classes=7, shape=shape, seed=0, width=None if name.startswith("wide") else width)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_fit_digits(name):
    model = build(name, classes=7, shape=(1, 8, 8), seed=0)
    assert model.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_normalisation_is_inside_the_network():
    model = Normalised(nn.Flatten(), (0.5, 0.25), (0.1, 0.2)).double()
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    expected = torch.stack([(x[:, 0] - 0.5) / 0.1, (x[:, 1] - 0.25) / 0.2], dim=1).flatten(1)
    torch.testing.assert_close(model(x), expected)


def test_a_network_of_the_users_own(monkeypatch):
    module = types.ModuleType("my_networks")
    module.net = lambda classes, channels: nn.Sequential(nn.Flatten(), nn.Linear(channels * 4, classes))  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "my_networks", module)
    assert build("my_networks:net", classes=3, shape=(2, 2, 2), seed=0)(torch.zeros(1, 2, 2, 2)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"expected options of my_networks:net among \['channels', 'classes'\], got"):
        build("my_networks:net", classes=3, shape=(2, 2, 2), seed=0, width=3)
    for name in ("my_networks:nothing", "no_such_module:net"):
        with pytest.raises(ValueError, match=r"to be an importable module:function, got: .*; fix it"):
            build(name, classes=3, shape=(2, 2, 2), seed=0)
    assert b"lambda classes, channels" in (source("my_networks:net") or b"")
    assert source("resnet8") is None
    with pytest.raises(ValueError, match=r"expected a network among .* or module:function, got 'resnet9'"):
        build("resnet9", classes=3, shape=(2, 2, 2), seed=0)


# --- processes -------------------------------------------------------------------------------------------------------


def test_one_process_shares_with_nobody():
    x = torch.arange(4.0)
    assert ALONE.gather(x) is x
    assert ALONE.total(x) is x
    assert ALONE.agree(3) == 3
    assert Processes(1, 2, torch.device("cpu")).share(6) == slice(3, 6)
    with pytest.raises(ValueError, match="expected a batch that 4 processes can share equally, got 6 images"):
        Processes(0, 4, torch.device("cpu")).share(6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="expected a device that is there, got 'cuda' without a GPU; use --device cpu"):
        processes("cuda").__enter__()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "cutmx"}, "expected a strategy among"),
        ({"schedule": "step"}, r"expected schedule among \['cosine', 'onecycle', 'constant'\], got 'step'"),
        ({"precision": "float16"}, "expected precision among .* got 'float16'"),
        ({"epochs": 0}, "expected epochs >= 1, got 0; raise it to 1 or more"),
        ({"batch": 0}, "expected batch >= 1, got 0"),
        ({"crop": -1}, "expected crop >= 0, got -1"),
        ({"lr": 0.0}, r"expected lr > 0 and finite, got 0\.0"),
        ({"lr": math.nan}, "expected lr > 0 and finite, got nan"),
        ({"lr": math.inf}, "expected lr > 0 and finite, got inf"),
        ({"clip": 0.0}, r"expected clip > 0 and finite, got 0\.0"),
        ({"width": 0}, "expected width > 0 and finite, got 0; choose another"),
        ({"weight_decay": -1.0}, r"expected a weight decay >= 0, got -1\.0; 5e-4 is usual"),
        ({"weight_decay": math.nan}, "expected a weight decay >= 0, got nan"),
        ({"momentum": 1.0}, r"expected momentum in \[0, 1\), got 1\.0; lower it"),
        ({"ema": 1.0}, r"expected ema in \[0, 1\), got 1\.0; lower it"),
        ({"smoothing": -0.1}, r"expected smoothing in \[0, 1\), got -0\.1; lower it"),
        ({"epochs": 3, "warmup": 3.0}, r"expected warmup in \[0, 3\) epochs, got 3\.0; shorten it"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_settings_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        RunConfig(**options)


def test_every_setting_makes_another_name():
    usual = RunConfig()
    other = replace(usual, strategy="hmix(alpha=0.5, ratio=0.75)", lr=0.2, flip=False)
    assert usual.name.startswith("digits-resnet8-cutmix-0-")
    assert other.name.startswith("digits-resnet8-hmix-alpha=0.5--ratio=0.75-0-")
    assert len({usual.name, other.name, replace(usual, epochs=31).name, replace(usual, data="digits:/x").name}) == 4
    assert other.options() == ["--strategy", "'hmix(alpha=0.5, ratio=0.75)'", "--lr", "0.2", "--no-flip"]


OTHER = {
    "data": "folder:my pictures; it's $HOME", "images": 100, "test_images": 50, "size": 96, "model": "mine:net",
    "width": 8, "activation": "gelu", "strategy": "choice(strategies=mixup(alpha=0.2)+cutmix, probabilities=0.3+0.7)",
    "per_sample": True, "smoothing": 0.1, "seed": 5, "epochs": 7, "batch": 32, "lr": 0.01, "momentum": 0.0,
    "weight_decay": 1e-4, "schedule": "onecycle", "warmup": 0.5, "clip": 1.0, "ema": 0.99, "crop": 2, "flip": False,
    "precision": "bfloat16", "channels_last": False, "compile": True, "evaluate_every": 3,
}  # fmt: skip


def test_the_recorded_command_gives_the_settings_back():
    assert OTHER.keys() == {f.name for f in fields(RunConfig)}, "a setting is missing here"
    config = RunConfig(**OTHER)
    for c in (config, replace(config, channels_last=True), RunConfig()):
        assert tyro.cli(RunConfig, args=shlex.split(" ".join(c.options()))) == c


def test_names_fit_into_a_folder():
    many = "+".join(f"mixup(alpha=0.{k})" for k in range(1, 30))
    shares = "+".join(["0.5"] + ["0"] * 27 + ["0.5"])
    assert len(RunConfig(strategy=f"choice(strategies={many}, probabilities={shares})").name) < 120


def test_warmup_steps():
    assert RunConfig(epochs=10).warmup_steps(7) == 7
    assert RunConfig(epochs=1).warmup_steps(8) == 4
    assert RunConfig(epochs=10, schedule="onecycle").warmup_steps(7) == 21
    assert RunConfig(epochs=10, warmup=0.5).warmup_steps(8) == 4
