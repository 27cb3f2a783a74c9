"""Terms against alpha."""

from __future__ import annotations

from experiments import tables_laws
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    rows = flat(records["alpha_sweep"]["result"]["summary"])
    return [
        Table(
            "alpha_sweep",
            "Terms and rise at every alpha",
            rows,
            (
                Column("training", "trained with"),
                Column("strategy", "mixed with"),
                Column("alpha", "alpha", 2),
                Column("r1", "R1", 4, error="se"),
                Column("r2", "R2", 4, error="se"),
                Column("r3", "R3", 4, error="se"),
                Column("rise", "measured rise", 4, error="se"),
                Column("rise_share", "rise over that at alpha = 1 (%)", 1, 100, error="se"),
            ),
            "± standard error over networks. Losses in nats; terms at the data, exact law.",
        )
    ]


SECTION = Section(
    key="alpha",
    order=60,
    title="What does alpha do?",
    text=(
        "The nominal weight is Beta(alpha, alpha). Small alphas turn Mixup nearly off, but not CutMix: there they make "
        "the box nearly the whole image or nearly nothing, and what is left of the partner then still counts.",
    ),
    records=("alpha_sweep",),
    figures=("alpha",),
    findings=lambda records: [tables_laws.alpha_sentence(records["alpha_sweep"])],
    tables=_tables,
)
