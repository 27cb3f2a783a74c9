"""What the strategies do to images."""

from __future__ import annotations

from reporting.section import Section

SECTION = Section(
    key="masks",
    order=10,
    title="What does each strategy do to an image?",
    text=(
        "A strategy is a joint law of a mask M and a label weight: `x~ = M x_i + (1 - M) x_j`. Mixup blends all pixels "
        "alike, CutMix pastes a box, HMix pastes a box of smaller area and blends the rest, GMix blends along a "
        "Gaussian bump.",
    ),
    records=("mask_gallery",),
    figures=("masks",),
)
