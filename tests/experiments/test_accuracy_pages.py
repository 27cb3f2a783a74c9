"""Tables, ledgers and the figure of the accuracy study on doctored runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from accuracy_runs import FOUR, NEW_AHEAD, VANILLA, make, noisy, record

from experiments import tables_accuracy as tables
from experiments.accuracy_stats import ORDER, rows, summary
from experiments.record import ROOT
from figures import accuracy as figure
from figures.style import NAMES


def test_the_table_shows_what_was_measured():
    runs = make({"vanilla": VANILLA, "mixup": (720, 715, 740), "hmix(ratio=0.75)": (715,)})
    lines = tables.table(record(runs)).splitlines()
    assert lines[2] == "| CIFAR-10 | ResNet-8 | vanilla | 71.00 ± 0.58 (2.48) |  | 3 | 91.00 | 3 |"
    mixup = "72.50 ± 0.76 (3.29) | +1.50 [-0.65, +3.65] | 1 | 91.00 | 3 |"
    assert lines[3] == f"| CIFAR-10 | ResNet-8 | Mixup | {mixup}"
    assert lines[4] == "| CIFAR-10 | ResNet-8 | HMix (ratio=0.75) | 71.50 | +1.50 | 2 | 90.00 | 1 |"
    assert "binomial standard error of 1.43 (1.41 to 1.43) points" in lines[6]
    missing = make({"vanilla": VANILLA, "mixup": (720, 715)}, seeds={"mixup": (0, 5)})
    assert "| +2.00, 1 pair |" in tables.table(record(missing))


def test_the_ledgers_follow_the_numbers():
    good = tables.ledger_c9(record(make(NEW_AHEAD)))
    assert "of 2 cases; holds." in good
    assert "CIFAR-10, ResNet-8: HMix +3.97 [+3.82, +4.11] over CutMix, GMix" in good
    bad = NEW_AHEAD | {"hmix": NEW_AHEAD["mixup"], "mixup": NEW_AHEAD["hmix"]}
    assert "of 2 cases; fails." in tables.ledger_c9(record(make(bad)))
    c4 = tables.ledger_c4(record(make(NEW_AHEAD)))
    assert "4 cases of strategy, data and network" in c4
    assert "test accuracy higher in 3, lower in 0 (+0.07 to +5.20 points)" in c4
    assert "smaller in 3, larger in 0 (-5.20 to -0.07 points); both higher accuracy and a smaller gap in 3." in c4
    worse = [r | {"train_accuracy": 1.0} if r["strategy"] == "hmix" else r for r in make(NEW_AHEAD)]
    assert "both higher accuracy and a smaller gap in 2." in tables.ledger_c4(record(worse))


def test_the_sentence_on_ranks():
    turned = make({"mixup": VANILLA, "cutmix": (720, 731, 740)}) + make(
        {"mixup": (720, 731, 740), "cutmix": VANILLA}, "fashion_mnist"
    )
    text = tables.ranks_sentence(record(turned))
    assert "CIFAR-10, ResNet-8: CutMix, +2.03 [+1.89, +2.18] over Mixup, mean rank 1.0 ± 0.0 of 2 over 3 seeds;" in text
    assert "Mixup over CutMix on (Fashion-MNIST, ResNet-8), under it on (CIFAR-10, ResNet-8)." in text
    assert "Friedman p = 0.05" in tables.ranks_sentence(
        record(make({"vanilla": (1, 2, 3), "mixup": (11, 12, 13), "cutmix": (21, 22, 23)}))
    )


def test_setting_and_throughput_sentences():
    runs = make({"vanilla": VANILLA, "mixup": VANILLA, "hmix": (1,)}) + make(
        {"vanilla": (1,)}, "fashion_mnist", images=500
    )
    text = tables.setting(record(runs))
    assert "CIFAR-10, ResNet-8: 12,000 training and 1,000 test images, 30 epochs, 1 to 3 seeds; Fashion-MNIST" in text
    assert "Fashion-MNIST, ResNet-8: 500 training and 1,000 test images, 30 epochs, 1 seed. Batch 128, learning" in text
    assert text.endswith("mirrored. CPU, 2 cores; torch 2.13; `python -m experiments.accuracy`.")
    assert ": Mixup 0.96, HMix 0.95; taken" in tables.throughput_sentence(record(runs))
    away = make({"vanilla": (1,), "mixup": (1,)}, "folder:/somewhere/else", images_per_s=10.0)
    assert "Mixup 0.98 (0.96 to 1.00)" in tables.throughput_sentence(record(runs + away))
    assert "somewhere" not in tables.setting(record(away)) + tables.table(record(away))


@pytest.mark.parametrize(
    "runs", [[], make({"mixup": (1,)}), make({"vanilla": (5, 6)}), make({"hmix": (1, 2), "gmix": (2, 3)}), noisy(FOUR)]
)
def test_pages_of_partial_records(runs):
    rec = record(runs)
    names = ("table", "ranks_sentence", "ledger_c9", "ledger_c4", "setting", "throughput_sentence")
    for text in (getattr(tables, name)(rec) for name in names):
        assert text
        assert not {"None", "nan", "inf"} & set(text.replace(",", " ").split())
    for name in ("ledger_c9", "ledger_c4"):  # inside a row of the ledger
        assert "\n" not in getattr(tables, name)(rec)
        assert "|" not in getattr(tables, name)(rec)
    assert len(tables.table(rec).splitlines()) == 2 + len(rec["result"]["rows"]) + 2


def drawn(runs, tmp_path, monkeypatch):
    """The visible panels of the figure of some runs."""
    (tmp_path / "accuracy.json").write_text(json.dumps(record(runs)), encoding="utf-8")
    kept = []
    monkeypatch.setattr(figure, "save", lambda fig, out, name: kept.append(fig) or [])
    figure.draw(tmp_path, tmp_path)
    monkeypatch.undo()
    return [ax for ax in kept[0].axes if ax.get_visible()]


@pytest.mark.parametrize("cells", [1, 3, 4])
def test_the_figure_draws_every_panel_with_the_same_bytes(cells, tmp_path, monkeypatch):
    runs = noisy(FOUR[:cells])
    axes = drawn(runs, tmp_path, monkeypatch)
    titles = ["CIFAR-10, ResNet-8", "CIFAR-100, ResNet-8", "digits, ResNet-8", "Fashion-MNIST, PreActResNet-18"]
    assert [ax.get_title() for ax in axes] == titles[:cells]
    found = {(r["data"], r["strategy"]): r["minus_vanilla"] for r in rows(runs)}
    for ax in axes[::2]:  # the left ones
        names = [NAMES[n].replace("Mixup or", "Mixup\nor") for n in ORDER[1:]]
        assert [t.get_text() for t in ax.get_yticklabels()] == names
    for ax, (data, _) in zip(axes, FOUR, strict=False):
        seeds = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 4]
        for x, name in zip(seeds, ORDER[1:], strict=True):
            assert list(x) == pytest.approx([100 * v for v in found[data, name]["values"]])
    first, second = (figure.draw(tmp_path, tmp_path / name) for name in "ab")
    assert [p.name for p in first] == ["accuracy.pdf", "accuracy.png"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_markers_are_filled_where_an_interval_does_not_contain_0(tmp_path, monkeypatch):
    counts = {"vanilla": VANILLA, "mixup": (720, 731, 740), "cutmix": (600, 701, 800), "hmix": (720, 730, 740)}
    (ax,) = drawn(make(counts | {"gmix": (715,)}), tmp_path, monkeypatch)
    faces = [
        line.get_markerfacecolor() for line in ax.lines if line.get_marker() in "osD^" and line.get_markersize() == 4
    ]
    assert [f == "white" for f in faces] == [False, True, True, True]


def test_a_figure_without_pairs_is_refused(tmp_path):
    for result in (summary(make({"mixup": (1, 2)})), {"runs": []}):
        (tmp_path / "accuracy.json").write_text(json.dumps({"config": {}, "result": result}), encoding="utf-8")
        with pytest.raises(ValueError, match="expected rows paired with vanilla in the record"):
            figure.draw(tmp_path, tmp_path)


def test_the_figure_needs_neither_torch_nor_the_experiments():
    code = (
        "import sys, figures.accuracy; print([m for m in ('torch', 'msda_theory', 'experiments') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
