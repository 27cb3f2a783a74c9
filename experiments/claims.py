"""The claims of both papers and what was found: one source for `paper_repro.md` and the report.

Texts and verdicts are typed here, numbers come from records: ``measured`` names blocks of `experiments.tables` in
braces, and the headline is made by `experiments.headlines`. Sources: C1 to C9, Park, Yun, Chun, NeurIPS 2022
(arXiv 2208.09913); D1 to D3, Ma, Chen, Li, ICDM Workshops 2023 (arXiv 2310.09764).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VERDICTS = ("holds", "holds with note", "fails", "open")


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, as far as its abstract states it, and the verdict.

    Attributes:
        key: "C1" to "D3".
        text: what is claimed.
        reported: what the paper says for it, as far as known.
        measured: text with the names of generated blocks in braces.
        verdict: one of `VERDICTS`.
        note: what the verdict needs to be true.
        shown: the figure or table of the report that shows it, as the place of a link.
        commands: that measure it, as Markdown.
        tests: files under ``tests/``.
        records: that the headline is made from.
    """

    key: str
    text: str
    reported: str
    measured: str
    verdict: str
    note: str
    shown: str
    commands: str
    tests: tuple[str, ...]
    records: tuple[str, ...]

    @property
    def status(self) -> str:
        """Verdict and note, as the ledger shows them."""
        return f"{self.verdict}: {self.note}" if self.note else self.verdict


def ledger(blocks: Mapping[str, str]) -> str:
    """The table of `paper_repro.md`, as Markdown, with the generated ``blocks`` filled in."""
    lines = [
        "| id | claim | reported | measured | status | command | tests |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in CLAIMS:
        tests = ", ".join(f"`tests/{name}`" for name in claim.tests)
        cells = (claim.key, claim.text, claim.reported, filled(claim.measured, blocks), claim.status, claim.commands)
        lines.append(f"| {' | '.join((*cells, tests))} |")
    return "\n".join(lines)


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """``text`` with ``{name}`` replaced by the block of that name."""
    for name, block in blocks.items():
        text = text.replace(f"{{{name}}}", block)
    return text


CLAIMS = (
    Claim(
        "C1",
        (
            "whatever the mixing strategy, MSDA acts as a pixel-level regularization of the training loss "
            "(second-order expansion)"
        ),
        reported="stated as a theorem",
        measured="{c1} {ladder-sentence} {theory-training-shares}",
        verdict="holds with note",
        note=(
            "right to second order for small steps; at full strength the expansion at the data misses most of the "
            "rise of these networks; at the mask, without R3, it comes within a half of it (softplus mostly below, "
            "ReLU mostly above); with class means within a tenth on digits; on residual networks of photographs "
            "Gauss-Newton at the mask overshoots on average, and with a blurred partner it comes near on CIFAR-10 and "
            "not on Fashion-MNIST; trained on in place of mixing, it reproduces most of the drop of the mixed loss at "
            "the mask, a third at the data"
        ),
        shown="figure-terms",
        commands="`make reproduce`, `python -m experiments.order_ladder`, `python -m experiments.theory_training`",
        tests=("test_verify.py", "test_one_sided.py", "test_expansion.py", "test_order_ladder.py", "test_objective.py"),
        records=("expansion_gap",),
    ),
    Claim(
        "C2",
        "... and as a regularization of the first-layer parameters",
        reported="stated as a theorem",
        measured="{c2}",
        verdict="holds with note",
        note=(
            "R2 is exactly a quadratic form of the first layer, and training with mixing makes that layer smaller "
            "in its metric; but alike in the metrics of other strategies, R2 itself and the logits' relative "
            "change do not fall, and R2 as a penalty alone moves the norm the same way, and other sizes only in "
            "part (at full strength the hidden layer's stable rank and low frequencies move the opposite way)"
        ),
        shown="figure-first_layer",
        commands="`python -m experiments.first_layer`",
        tests=(
            "test_first_layer.py",
            "test_linear_models.py",
            "test_least_squares.py",
            "experiments/test_first_layer_study.py",
        ),
        records=("first_layer",),
    ),
    Claim(
        "C3",
        "MSDA training improves adversarial robustness over vanilla training",
        reported="stated as a theorem",
        measured="{c3}",
        verdict="holds with note",
        note=(
            "on digits at medium radii, for CutMix, HMix, GMix and Mixup or CutMix; Mixup's gain is told under "
            "FGSM, not in the worst case over stronger attacks, and at the largest radii half of the gains are "
            "not; the inequality holds, for networks trained without mixing too"
        ),
        shown="figure-robust",
        commands="`python -m experiments.robust_accuracy`",
        tests=("experiments/test_robust_study.py", "test_robustness.py", "test_adversarial_bound.py"),
        records=("robust_accuracy",),
    ),
    Claim(
        "C4",
        "... and generalization",
        reported="stated as a theorem",
        measured="{c4} {c4-digits}",
        verdict="holds with note",
        note=(
            "networks gain accuracy on photographs and, on digits, with few images; with all digits no gain is "
            "told and the test loss rises; linear models gain none; the Rademacher bound orders the strategies "
            "for linear models with few images, and not elsewhere"
        ),
        shown="figure-accuracy",
        commands="`python -m experiments.accuracy`, `python -m experiments.generalization`",
        tests=(
            "experiments/test_accuracy_study.py",
            "experiments/test_accuracy.py",
            "experiments/test_robust_study.py",
            "test_generalization.py",
        ),
        records=("accuracy", "generalization"),
    ),
    Claim(
        "C5",
        "CutMix regularizes input gradients by pixel distance, Mixup regardless of it",
        reported="stated",
        measured="{c5} {c5-networks}",
        verdict="holds with note",
        note=(
            "Mixup's coefficient is constant, CutMix's falls with distance over near pairs; under the exact law "
            "it rises again towards opposite borders; networks trained with CutMix have less product of gradients "
            "at short distance than those trained with Mixup"
        ),
        shown="figure-coefficients",
        commands="`make reproduce`, `python -m experiments.gradient_products`",
        tests=("masks/test_identities.py", "masks/test_moments_enumeration.py", "test_gradient_products.py"),
        records=("mask_coefficients", "gradient_products"),
    ),
    Claim(
        "C6",
        "the best strategy depends on task, data set and model",
        reported="stated",
        measured="{c6} On real images: {accuracy-ranks}",
        verdict="holds with note",
        note=(
            "shown for the task, on two that were designed for it, where the terms predict the better of Mixup and "
            "CutMix; neither gains over training without mixing there; data sets and models are open"
        ),
        shown="figure-tasks",
        commands="`python -m experiments.task_winners`",
        tests=("experiments/test_task_winners.py",),
        records=("task_winners",),
    ),
    Claim(
        "C7",
        "HMix (hybrid of Mixup and CutMix) and GMix (Gaussian Mixup) combine the advantages of both",
        reported="stated",
        measured="{c7}",
        verdict="holds with note",
        note=(
            "where Mixup and CutMix are far apart (designed tasks) both lie between them; on real images the mean of "
            "GMix is above both, told from CutMix by intervals on both data sets and from Mixup on one; that of HMix "
            "lies between or above, not told apart"
        ),
        shown="figure-accuracy",
        commands="`python -m experiments.accuracy`, `python -m experiments.task_winners`",
        tests=("experiments/test_accuracy.py", "experiments/test_task_winners.py"),
        records=("accuracy",),
    ),
    Claim(
        "C8",
        "their cost is almost negligible, like Mixup's and CutMix's",
        reported="stated",
        measured="{c8} {c8-training}",
        verdict="holds with note",
        note="HMix and GMix cost a fraction of a copy of the batch more than Mixup; training keeps its speed",
        shown="table-bench_mix",
        commands="`python -m experiments.bench_mix`, `python -m experiments.bench_train`",
        tests=("experiments/test_bench_mix.py", "experiments/test_bench_train.py", "test_mix_transform.py"),
        records=("bench_mix",),
    ),
    Claim(
        "C9",
        "HMix and GMix outperform earlier MSDA on CIFAR-100 and ImageNet classification",
        reported="stated",
        measured=(
            "{c9} (2,000 training images each, of a class-balanced subset of CIFAR-10 and of Fashion-MNIST.) "
            "CIFAR-100 and ImageNet wait for a GPU."
        ),
        verdict="open",
        note="not measured on the claim's data sets",
        shown="figure-accuracy",
        commands=(
            "on the data above: `python -m experiments.accuracy`; CIFAR-100: `python -m experiments.accuracy "
            "--protocol gpu`; ImageNet: [`docs/training.md`](docs/training.md#imagenet-1k), then `python -m "
            "experiments.accuracy --protocol imagenet`"
        ),
        tests=("experiments/test_accuracy_study.py", "experiments/test_train.py"),
        records=("accuracy",),
    ),
    Claim(
        "D1",
        "DropMix picks hard negatives by a local and a global view of the graph together",
        reported="stated",
        measured="{d1}",
        verdict="holds with note",
        note=(
            "the reference code ranks each view apart; on CiteSeer negatives that both views keep are the best choice, "
            "above either single view; on Cora the global view alone is a little above both"
        ),
        shown="table-dropmix_accuracy",
        commands="`python -m experiments.dropmix`",
        tests=("graph/test_hardness.py", "experiments/test_dropmix_study.py"),
        records=("dropmix",),
    ),
    Claim(
        "D2",
        (
            "mixing hard negatives on part of the representation dimensions only loses less information than "
            "Mixup of all dimensions"
        ),
        reported="stated",
        measured="{d2}",
        verdict="holds with note",
        note=(
            "the cosine with the original and, in the global view, a linear probe lose less; but mixed "
            "negatives are less hard than the originals, more so on part of the dimensions than on all, and the "
            "loss falls by mixing"
        ),
        shown="figure-dropmix",
        commands="`python -m experiments.dropmix`",
        tests=("graph/test_information.py", "graph/test_negative_expansion.py"),
        records=("dropmix",),
    ),
    Claim(
        "D3",
        "DropMix improves graph contrastive learning on benchmark graphs",
        reported="stated",
        measured="{d3}",
        verdict="fails",
        note=(
            "on these: not told from no mixing on Cora; below it on CiteSeer, "
            "where the selection of hard negatives costs more than mixing them; PubMed, Amazon and Coauthor graphs open"
        ),
        shown="figure-dropmix",
        commands="`python -m experiments.dropmix`",
        tests=("experiments/test_dropmix_study.py", "graph/test_training.py"),
        records=("dropmix",),
    ),
)
