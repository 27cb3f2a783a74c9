"""Named streams: equal for equal names, without a number in common for different ones, the same in every release."""

from __future__ import annotations

import zlib
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mc_checks import assert_mean_of_bounded, fails
from property_cases import examples

from msda_theory.streams import seed_from, stream

labels = st.lists(st.text(min_size=1, max_size=12), max_size=4).map(tuple)
any_seed = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 100), st.sampled_from([0, 2**32 - 1, 2**32, 2**63 - 1]))


def words(rng: np.random.Generator, number: int = 64) -> np.ndarray:
    return rng.integers(2**64, size=number, dtype=np.uint64)


@examples(100)
@given(any_seed, labels)
def test_equal_names_give_equal_draws(seed, names):
    assert (words(stream(seed, *names)) == words(stream(seed, *names))).all()


@examples(200)
@given(any_seed, any_seed, labels, labels)
def test_different_names_give_different_draws(seed, other, names, other_names):
    """Of 64-bit numbers from independent streams, 128 have two equal ones with probability 4e-16."""
    assume((seed, names) != (other, other_names))
    both = np.concatenate([words(stream(seed, *names)), words(stream(other, *other_names))])
    assert len(np.unique(both)) == 128


def family() -> list[tuple[int, tuple[str, ...]]]:
    """Seeds and names as the package uses them, and names that differ in how they are cut or in one character."""
    places = [(str(start), str(g)) for start in range(0, 640, 64) for g in range(4)]
    names: list[tuple[str, ...]] = [(purpose, *place) for purpose in ("partner", "mask") for place in places]
    names += [(), ("moments", "exact"), ("moments", "paper"), ("pilot",), ("partner",), ("mask",)]
    names += [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("A",), ("a",), ("a ",), ("a", "a"), ("a", "a", "a")]
    names += [("mix", f"epoch {e}", f"worker {w}", p) for e in range(5) for w in range(3) for p in ("partner", "mask")]
    seeds = [*range(8), 2**32 - 1, 2**32, 2**62 + 1, seed_from(np.random.default_rng(0))]
    return list(product(seeds, names))


def test_a_family_of_streams_has_no_number_in_common():
    """1,500 streams of 32 numbers: independent ones repeat a 64-bit number with probability 6e-11."""
    drawn = np.stack([words(stream(seed, *names), 32) for seed, names in family()])
    assert len(np.unique(drawn)) == drawn.size


FAR = 100_000  # numbers of a stream in which the beginnings of others are looked for


def within(streams: list[np.random.Generator], others: list[np.random.Generator]) -> list[int]:
    """Which of ``streams``, equal to those of ``others``, have one of their first `FAR` numbers begin another one."""
    first = np.stack([words(rng, 4) for rng in streams])
    found = []
    for k, rng in enumerate(others):
        if np.isin(words(rng, FAR), np.delete(first, k, axis=0)).any():
            found.append(k)
    return found


def test_no_stream_begins_within_the_first_hundred_thousand_numbers_of_another():
    """100 streams of every kind: independent ones have such a number with probability 2e-10. Later is not looked at."""
    chosen = family()[:: len(family()) // 100]
    assert len(chosen) >= 100
    assert not within([stream(s, *n) for s, n in chosen], [stream(s, *n) for s, n in chosen])
    later = stream(*(1, "a"))
    words(later, FAR - 10)
    ahead = np.random.default_rng(0)
    ahead.bit_generator.state = later.bit_generator.state
    assert within([stream(1, "a"), later], [stream(1, "a"), ahead]) == [0], "evil twin: one stream far on in another"


def test_a_stream_that_begins_within_another_is_seen():
    """Evil twin: the numbers of one stream, 20 further on."""
    one, two = words(stream(1, "a"), 32), words(stream(1, "a"), 52)[20:]
    assert len(np.unique(np.concatenate([one, two]))) == 52


def products(pairs: list[tuple[np.random.Generator, np.random.Generator]]) -> np.ndarray:
    """Products of uniform numbers of two streams, for shifts of one against the other by 0, 1 and 2."""
    rows = []
    for a, b in pairs:
        u, v = a.random(202), b.random(202)
        rows.append(np.stack([u[:200] * v[s : 200 + s] for s in range(3)], axis=1))
    return np.concatenate(rows)


def test_neighbouring_streams_are_uncorrelated():
    """Neighbours in the seed, in the place, in the purpose: the mean product of independent numbers is 1/4."""
    pairs = [(stream(s, "partner", "0", "0"), stream(s + 1, "partner", "0", "0")) for s in range(100)]
    pairs += [(stream(0, "mask", str(64 * k), "0"), stream(0, "mask", str(64 * k + 64), "0")) for k in range(100)]
    pairs += [(stream(s, "mask", "0", "0"), stream(s, "partner", "0", "0")) for s in range(100)]
    assert_mean_of_bounded(products(pairs), np.full(3, 0.25), alpha=1e-6)
    same = [(stream(s, "mask"), stream(s, "mask")) for s in range(300)]
    assert fails(lambda: assert_mean_of_bounded(products(same), np.full(3, 0.25), alpha=1e-6))


def test_seeds_taken_from_a_generator_do_not_repeat():
    rng = np.random.default_rng(5)
    seeds = {seed_from(rng) for _ in range(5000)}
    assert len(seeds) == 5000
    assert all(0 <= s < 2**63 for s in seeds)


def test_numbers_of_places_have_names_of_their_own():
    """A name enters by a checksum of 32 bits; those of all places of a large data set differ."""
    entropy = stream(3, "7").bit_generator.seed_seq.entropy
    assert entropy == [3, zlib.crc32(b"7")]
    checksums = {zlib.crc32(str(k).encode()) for k in range(500_000)}
    assert len(checksums) == 500_000
    assert 0 not in checksums


PINNED = [
    ((0,), 5874934615388537135, [511, 269, 307, 40], "0x1.0ec9ed84d0bc0p-6", "0x1.a2a14af0d0719p-2"),
    (
        (0, "partner", "0", "0"),
        2588145754513250174,
        [458, 339, 538, 42],
        "0x1.f022de5583d00p-8",
        "0x1.4e5478fbb4049p-2",
    ),
    ((1, "mask", "64", "3"), 417455064330930901, [508, 980, 324, 142], "0x1.95c69cef107a0p-2", "0x1.cf7ee669f88c9p-2"),
    (
        (2**63 - 1, "moments", "exact"),
        *(5074828686088377561, [676, 441, 68, 189], "0x1.1b73e09fa9a34p-2", "0x1.90d4dc6cd893bp-2"),
    ),
]


@pytest.mark.parametrize(("args", "word", "small", "uniform", "beta"), PINNED, ids=lambda v: str(v)[:20])
def test_the_numbers_of_a_stream_stay(args, word, small, uniform, beta):
    """Records are made from these numbers: another release of NumPy that draws others must not go unnoticed."""
    rng = stream(*args)
    assert int(rng.integers(2**63)) == word
    assert rng.integers(1000, size=4).tolist() == small
    assert rng.random() == float.fromhex(uniform)
    assert rng.beta(0.5, 0.5) == pytest.approx(float.fromhex(beta), rel=1e-13)  # by functions of the system's library


def test_an_empty_name_is_refused():
    """Its checksum is 0, which numpy's seeds do not tell from nothing: it would be the stream without that name."""
    for names in (("",), ("a", ""), ("", "a")):
        with pytest.raises(ValueError, match="expected labels of at least one character, got"):
            stream(1, *names)
