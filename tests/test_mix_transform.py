"""Mixed batches: against naive mixing with the same draws; formats, labels, streams of workers and epochs."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from naive import as_users_run_it
from torch.utils.data import DataLoader, TensorDataset

import msda_theory as mt
from msda_theory import mixing
from msda_theory.masks.registry import REGISTRY
from msda_theory.streams import seed_from, stream

K = 5
SHAPE = (7, 9)


@dataclass(frozen=True)
class Dense(mt.Strategy):
    """A user's strategy: masks without factors, as read-only arrays."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = rng.random((len(lam), *shape))
        mask.setflags(write=False)
        return mt.MaskBatch(mask, mask.mean(axis=(1, 2)))


def measured() -> mt.MeasuredLaw:
    """Forty draws of CutMix and GMix as a measured law."""
    parts = [s.sample(20, SHAPE, rng=np.random.default_rng(1)) for s in (mt.CutMix(), mt.GMix())]
    mask, lam = (np.concatenate([getattr(p, k) for p in parts]) for k in ("mask", "lam"))
    return mt.MeasuredLaw(mask, lam, np.full(40, 1 / 40), "measured")


STRATEGIES = {
    **{name: cls() for name, cls in REGISTRY.items()},
    "cutmix-periodic": mt.CutMix(box="periodic"),
    "cutmix-nominal": mt.CutMix(label="nominal"),
    "hmix-cut": mt.HMix(ratio=1.0, box="inside"),
    "choice-of-boxes": mt.Choice(strategies=(mt.Vanilla(), mt.CutMix()), probabilities=(0.5, 0.5)),
    "dense": Dense(),
    "measured": measured(),
    "choice-dense": mt.Choice(strategies=(Dense(), mt.CutMix()), probabilities=(0.5, 0.5)),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def batch(n=6, dtype=torch.float64, shape=SHAPE, channels=3, seed=0):
    g = rng([seed, n])
    x = torch.from_numpy(g.random((n, channels, *shape))).to(dtype)
    return x, torch.from_numpy(g.integers(K, size=n))


def naively(strategy, x, y, per_sample, seed=0, calls=1):
    """The ``calls``-th call: pixel by pixel in float64, from draws of full masks."""
    seed = seed_from(rng(seed))
    partners, masks = (stream(seed, "mix", "main process", purpose) for purpose in ("partner", "mask"))
    for _ in range(calls):
        p = partners.permutation(len(x))
        draws = strategy.sample(len(x) if per_sample else 1, x.shape[2:], rng=masks)
    images, labels = np.zeros(x.shape), np.zeros((len(x), K))
    values = x.double().numpy()
    for i in range(len(x)):
        mask, lam = draws.mask[i if per_sample else 0], draws.lam[i if per_sample else 0]
        for c in range(x.shape[1]):
            images[i, c] = mask * values[i, c] + (1 - mask) * values[p[i], c]
        labels[i, y[i]] += lam
        labels[i, y[p[i]]] += 1 - lam
    return torch.from_numpy(images), torch.from_numpy(labels)


def transform(strategy=None, seed=0, **options):
    return mt.MixTransform(mt.CutMix() if strategy is None else strategy, K, rng=rng(seed), **options)


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per-sample"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_equal_to_naive_mixing_with_the_same_draws(name, per_sample):
    x, y = batch()
    mix = transform(STRATEGIES[name], per_sample=per_sample)
    for call in range(1, 4):
        found, labels = mix(x, y)
        images, targets = naively(STRATEGIES[name], x, y, per_sample, calls=call)
        torch.testing.assert_close(found, images, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(labels, targets, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per-sample"])
def test_another_law_is_told_apart(per_sample):
    """Evil twin of the test above."""
    x, y = batch()
    found, _ = transform(mt.CutMix(), per_sample=per_sample)(x, y)
    images, _ = naively(mt.CutMix(alpha=2.0), x, y, per_sample)
    assert not torch.allclose(found, images)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-15), (torch.float32, 2e-7), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
    ids=["f64", "f32", "f16", "bf16"],
)
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_dtype_and_memory_format_is_kept(name, dtype, tolerance, layout):
    x, y = batch(dtype=dtype)
    x = x.to(memory_format=layout)
    for per_sample in (False, True):
        found, labels = transform(STRATEGIES[name], per_sample=per_sample)(x, y)
        assert (found.dtype, found.device, found.stride()) == (dtype, x.device, x.stride())
        assert labels.dtype == (dtype if dtype in (torch.float32, torch.float64) else torch.float32)
        images, targets = naively(STRATEGIES[name], x, y, per_sample)
        torch.testing.assert_close(found.double(), images, rtol=0, atol=tolerance)
        torch.testing.assert_close(labels.double(), targets, rtol=0, atol=1e-7)


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per-sample"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_inputs_are_left_alone_and_share_no_memory(name, per_sample):
    for n in (1, 6):
        x, y = batch(n)
        soft = torch.nn.functional.one_hot(y, K).double()
        before = x.clone(), y.clone(), soft.clone()
        mix = transform(STRATEGIES[name], per_sample=per_sample)
        for labels in (y, soft):
            results = mix(x, labels)
            for result, given in itertools.product(results, (x, labels)):
                assert result.untyped_storage().data_ptr() != given.untyped_storage().data_ptr()
            for result in results:
                result.zero_()
        assert all(torch.equal(a, b) for a, b in zip((x, y, soft), before, strict=True))


def test_a_batch_of_one_comes_back():
    x, y = batch(1)
    for strategy in STRATEGIES.values():
        found, labels = transform(strategy)(x, y)
        torch.testing.assert_close(found, x, rtol=0, atol=0)
        torch.testing.assert_close(labels, torch.nn.functional.one_hot(y, K).double(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vanilla", "cutmix", "hmix", "gmix", "dense"])
def test_layouts_that_are_not_contiguous(name):
    large, y = batch(shape=(14, 20))
    views = {
        "strided": large[:, :, ::2, 1:19:2],
        "transposed": large[:, :, :9, :7].transpose(2, 3),
        "expanded": large[:1, :, :7, :9].expand(6, -1, -1, -1),
        "one channel": large[:, :1, :7, :9],
    }
    for label, x in views.items():
        for per_sample in (False, True):
            found, _ = transform(STRATEGIES[name], per_sample=per_sample)(x, y)
            images, _ = naively(STRATEGIES[name], x, y, per_sample)
            torch.testing.assert_close(found, images, rtol=1e-14, atol=1e-15, msg=lambda m, k=label: f"{k}: {m}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per-sample"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_gpu_gives_the_numbers_of_the_cpu(name, per_sample):
    x, y = batch()
    x = x.to(memory_format=torch.channels_last)
    here = transform(STRATEGIES[name], per_sample=per_sample)(x, y)
    there = transform(STRATEGIES[name], per_sample=per_sample)(x.cuda(), y.cuda())
    for a, b in zip(here, there, strict=True):
        assert b.device.type == "cuda"
        assert b.stride() == a.stride()
        torch.testing.assert_close(b.cpu(), a, rtol=1e-14, atol=1e-15)


def test_gradients_pass_to_the_images():
    x, y = batch(4)
    for name, per_sample in itertools.product(("mixup", "cutmix", "gmix", "dense"), (False, True)):
        leaf = x.clone().requires_grad_()
        found, _ = transform(STRATEGIES[name], per_sample=per_sample)(leaf, y)
        torch.testing.assert_close(found.detach(), transform(STRATEGIES[name], per_sample=per_sample)(x, y)[0])
        weights = torch.from_numpy(rng(1).random(found.shape))
        (found * weights).sum().backward()
        # The map is linear: <w, T x> = <T' w, x>
        torch.testing.assert_close((found.detach() * weights).sum(), (leaf.grad * x).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_boxes_pasted_and_blended_agree(n):
    """The two ways to the same images."""
    x, _ = batch(n, torch.float32)
    partner = rng(1).permutation(n)
    for count, draw_seed in itertools.product({1, n}, range(5)):
        draws = mt.CutMix().sample_compact(count, SHAPE, rng=rng(draw_seed))
        boxes = mixing._boxes(draws)
        assert len(boxes) == count
        blended = mixing.blend(x, partner, mixing._weights(draws, x))
        assert torch.equal(mixing.paste(x, partner, boxes), blended)


def test_what_counts_as_boxes():
    def boxes(strategy, n=50):
        return mixing._boxes(strategy.sample_compact(n, SHAPE, rng=rng()))

    assert len(boxes(mt.CutMix())) == len(boxes(mt.Vanilla())) == len(boxes(STRATEGIES["choice-of-boxes"])) == 50
    for strategy in (mt.Mixup(), mt.HMix(), mt.GMix(), mt.Choice(), mt.CutMix(box="periodic"), Dense()):
        assert boxes(strategy) is None


# --- labels ---------------------------------------------------------------------------------------------------------


def test_soft_labels_are_those_of_the_indices():
    x, y = batch()
    hard = transform(mt.GMix(), per_sample=True)(x, y)[1]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        soft = torch.nn.functional.one_hot(y, K).to(dtype)
        found = transform(mt.GMix(), per_sample=True)(x, soft)[1]
        torch.testing.assert_close(found, hard, rtol=0, atol=0)


def test_smoothing_is_applied_to_the_mixed_label():
    x, y = batch()
    plain = transform(mt.Mixup(), per_sample=True)(x, y)[1]
    smooth = transform(mt.Mixup(), per_sample=True, smoothing=0.1)(x, y)[1]
    torch.testing.assert_close(smooth, 0.9 * plain + 0.1 / K, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(smooth.sum(dim=1), torch.ones(len(x), dtype=torch.float64), rtol=1e-14, atol=0)


# --- streams --------------------------------------------------------------------------------------------------------


def epochs(mix, count=2, *, workers=2, persistent=False, context=None, set_epoch=True, torch_seed=0, n=24):
    """The batches of ``count`` epochs, four in each, of images that are all different."""
    data = TensorDataset(torch.arange(n * 4, dtype=torch.float32).reshape(n, 1, 2, 2), torch.arange(n) % K)
    loader = DataLoader(
        data,
        batch_size=6,  # two batches are both left alone by their permutations in 1 of 720^2 cases
        collate_fn=mix.collate,
        num_workers=workers,
        persistent_workers=persistent,
        multiprocessing_context=context,
        generator=torch.Generator().manual_seed(torch_seed),
    )
    found = []
    for epoch in range(count):
        if set_epoch:
            mix.set_epoch(epoch)
        found.append([(x.clone(), y.clone()) for x, y in loader])
    return found


def same(a, b):
    return all(torch.equal(p, q) for s, t in zip(a, b, strict=True) for p, q in zip(s, t, strict=True))


WORKERS = [(0, False), (2, False), (2, True)]
WORKER_IDS = ["main", "workers", "persistent"]
fork = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


@fork
@pytest.mark.parametrize("set_epoch", [True, False], ids=["set", "unset"])
@pytest.mark.parametrize(("workers", "persistent"), WORKERS, ids=WORKER_IDS)
def test_epochs_differ_and_repeat_with_the_seed_lightning_20412(workers, persistent, set_epoch):
    """Lightning-AI/pytorch-lightning#20412: equal augmentations in every epoch, as workers were seeded alike."""
    options = {"workers": workers, "persistent": persistent, "set_epoch": set_epoch}
    first, again, other = (epochs(transform(mt.Mixup(), seed), 3, **options) for seed in (0, 0, 1))
    for a, b in itertools.combinations(first, 2):
        assert not any(same([s], [t]) for s, t in zip(a, b, strict=True))
    for a, b, c in zip(first, again, other, strict=True):
        assert same(a, b)
        assert not any(same([s], [t]) for s, t in zip(a, c, strict=True))


@fork
def test_with_epochs_torch_seeds_have_no_influence():
    """Draws follow from (seed, epoch, worker, call): also in another order, and in persistent workers or new ones."""
    one = epochs(transform(mt.Mixup()), 2, torch_seed=0)
    assert all(same(a, b) for a, b in zip(one, epochs(transform(mt.Mixup()), 2, torch_seed=1), strict=True))
    kept = epochs(transform(mt.Mixup()), 2, torch_seed=2, persistent=True)
    assert all(same(a, b) for a, b in zip(one, kept, strict=True))
    mix = transform(mt.Mixup())
    mix.set_epoch(7)
    assert same(epochs(mix, 1)[0], one[0])


@fork
def test_without_epochs_they_follow_the_seed_of_the_loader():
    a, b, c = (epochs(transform(mt.Mixup()), 1, set_epoch=False, torch_seed=seed)[0] for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, c)


@fork
@pytest.mark.parametrize("set_epoch", [True, False], ids=["set", "unset"])
def test_two_workers_draw_differently(set_epoch):
    """Batches 0 and 1 are the first of workers 0 and 1; the labels show partners and weights."""
    x, y = torch.zeros(8, 1, 2, 2), torch.arange(4).repeat(2)
    loader = DataLoader(
        TensorDataset(x, y), batch_size=4, num_workers=2, collate_fn=(mix := transform(mt.Mixup())).collate
    )
    if set_epoch:
        mix.set_epoch(0)
    (_, first), (_, second) = loader
    assert not torch.equal(first, second)


def test_spawned_persistent_workers_draw_like_forked_ones():
    """The epoch reaches them through shared memory; a spawned worker imports everything anew, so once only."""
    spawned = epochs(transform(mt.Mixup()), 2, context="spawn", persistent=True)
    forked = epochs(transform(mt.Mixup()), 2, context="fork", persistent=True)
    assert all(same(a, b) for a, b in zip(spawned, forked, strict=True))
    assert not same(*spawned)


def test_set_epoch_starts_over_in_the_main_process():
    x, y = batch()
    mix = transform(mt.Mixup())
    mix.set_epoch(3)
    first = [mix(x, y) for _ in range(2)]
    mix.set_epoch(3)
    assert same(first, [mix(x, y) for _ in range(2)])
    assert not same(first[:1], first[1:])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_continue_the_stream_and_have_epochs_of_their_own(copied):
    x, y = batch()
    mix = transform(mt.Mixup())
    mix(x, y)
    twin = copied(mix)
    assert same([mix(x, y)], [twin(x, y)])
    twin.set_epoch(1)
    assert same([mix(x, y)], [copied(mix)(x, y)]) is False  # the copy is one call behind
    assert twin._epoch.is_shared()
    assert mix._epoch.tolist() == [0, 0]


def test_strategies_share_the_partners():
    """Equal seeds pair them: Mixup and GMix with nominal labels show the same permutation."""
    x = torch.zeros(K, 1, 4, 4)
    y = torch.arange(K)
    a, b = (transform(s)(x, y)[1] for s in (mt.Mixup(), mt.GMix(label="nominal")))
    assert torch.equal(a != 0, b != 0)
    assert torch.equal(a, b)


def test_partners_are_permutations_with_fixed_points():
    """One self pair a batch on average, variance 1: within 5 standard errors over 2,000 batches."""
    mix, x, y = transform(mt.Mixup()), torch.zeros(K, 1, 1, 1), torch.arange(K)
    labels = torch.stack([mix(x, y)[1] for _ in range(2000)])
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(2000, K))  # every image is a partner once
    fixed = (labels.diagonal(dim1=1, dim2=2) == 1).sum(dim=1).double()
    assert abs(float(fixed.mean()) - 1) < 5 / 2000**0.5


# --- errors ---------------------------------------------------------------------------------------------------------

X, Y = batch()


def build(classes, rng=np.random.default_rng(0)):  # noqa: B008
    return mt.MixTransform(mt.CutMix(), classes, rng=rng)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "expected a strategy such as CutMix", lambda: mt.MixTransform("cutmix", K, rng=rng())),
        (TypeError, "expected rng to be a numpy.random.Generator, got int", lambda: build(K, rng=0)),
        (ValueError, "expected the number of classes, a whole number >= 1, got 0", lambda: build(0)),
        (ValueError, r"expected the number of classes, .* got True", lambda: build(True)),
        (ValueError, r"expected smoothing in \[0, 1\), got 1.0", lambda: transform(smoothing=1.0)),
        (ValueError, r"expected smoothing in \[0, 1\), got nan", lambda: transform(smoothing=float("nan"))),
        (TypeError, "expected smoothing as a number, got 'a'; pass a float", lambda: transform(smoothing="a")),
        (TypeError, "expected smoothing as a number, got True", lambda: transform(smoothing=True)),
        (TypeError, "expected a batch of images as a torch.Tensor, got ndarray", lambda: transform()(X.numpy(), Y)),
        (
            TypeError,
            r"expected floating point images, got torch.uint8; scale them to \[0, 1\] first",
            lambda: transform()(X.to(torch.uint8), Y),
        ),
        (
            ValueError,
            r"expected a batch of images \[B, C, H, W\], none of them 0, got \[3, 7, 9\]",
            lambda: transform()(X[0], Y),
        ),
        (ValueError, r"none of them 0, got \[0, 3, 7, 9\]", lambda: transform()(X[:0], Y[:0])),
        (TypeError, "expected labels as a torch.Tensor, got list", lambda: transform()(X, Y.tolist())),
        (
            ValueError,
            "expected labels on the device of the images, cpu, got meta",
            lambda: transform()(X, Y.to("meta")),
        ),
        (
            ValueError,
            r"expected labels as class indices \[6\] in int64 or soft labels \[6, 5\] in floating point, got \[5\] in",
            lambda: transform()(X, Y[:5]),
        ),
        (ValueError, r"got \[6\] in torch.int32; convert them", lambda: transform()(X, Y.int())),
        (ValueError, r"got \[6\] in torch.float32; convert them", lambda: transform()(X, Y.float())),
        (ValueError, r"got \[6, 4\] in torch.float32", lambda: transform()(X, torch.zeros(6, 4))),
        (ValueError, r"got \[6, 5\] in torch.int64", lambda: transform()(X, torch.zeros(6, 5).long())),
        (
            ValueError,
            r"expected class indices in 0 \.\. 4, got 5 \.\. 5; fix the labels",
            lambda: transform()(X, Y.clamp(min=5)),
        ),
        (ValueError, r"expected class indices in 0 .. 4, got -1 ..", lambda: transform()(X, Y - Y.min() - 1)),
        (ValueError, r"expected an epoch 0, 1, 2, ..., got -1", lambda: transform().set_epoch(-1)),
        (ValueError, r"expected an epoch 0, 1, 2, ..., got 1.5", lambda: transform().set_epoch(1.5)),
        (TypeError, r"expected samples \(image, label\), got Tensor", lambda: transform().collate(list(X))),
        (TypeError, r"expected samples \(image, label\), got tuple", lambda: transform().collate([(X[0], 1, 2)])),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(error, message, call):
    with as_users_run_it(), pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), -1e-3, float("inf"), -float("inf")])
def test_soft_labels_are_finite_and_not_negative(value, dtype):
    mix, soft = transform(), torch.full((6, K), 1 / K, dtype=dtype)
    soft[2] = torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0])  # weights, not probabilities, of several classes
    mix(X, soft)
    soft[3, 1] = value
    with pytest.raises(
        ValueError, match=r"expected soft labels that are finite and >= 0, got .* \.\. .*; repair the lab"
    ):
        mix(X, soft)


def test_a_refused_batch_takes_no_draws():
    mix, fresh = transform(), transform()
    with pytest.raises(ValueError, match=r"expected class indices in 0 \.\. 4"):
        mix(X, Y + K)
    assert same([mix(X, Y)], [fresh(X, Y)])


# --- the circle closes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per-sample"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_its_law_is_measured_to_be_that_of_its_strategy(per_sample, smoothing):
    mix = mt.MixTransform(mt.CutMix(), 8, rng=rng(), per_sample=per_sample, smoothing=smoothing)
    law = mt.law_of(mix, SHAPE, draws=3_000)
    moments, truth = law.moments(SHAPE), mt.CutMix().moments(SHAPE)
    assert law.smoothing == pytest.approx(smoothing, abs=1e-6)
    # the largest of 63 diagonal entries, at the two-sided level 1e-6
    assert np.abs(moments.second.diagonal() - truth.second.diagonal()).max() < 5.7 * moments.provenance.error
    other = mt.CutMix(label="nominal").moments(SHAPE)
    assert np.abs(moments.second.diagonal() - other.second.diagonal()).max() > 5.7 * moments.provenance.error
