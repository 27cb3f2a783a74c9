"""msda_theory: the theory of mixed-sample data augmentation, computed and checked.

The second-order expansion of the mixed loss of Mixup, CutMix, HMix, GMix and any other mask law, against the measured
mixed loss, on trained networks. Derivations: docs/theory.md.
"""

from msda_theory.compare import Comparison, Row, compare
from msda_theory.data import ImageData
from msda_theory.distance import coefficient_by_distance, gradient_term_by_displacement, gradient_term_by_distance
from msda_theory.estimate import Estimate
from msda_theory.expansion import Expansion, expand
from msda_theory.first_layer import first_layer_form, first_layer_r2
from msda_theory.kink import kink
from msda_theory.losses import Logistic, Loss, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.law_of import law_of
from msda_theory.masks.measured import MeasuredLaw
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import strategies, strategy
from msda_theory.masks.vanilla import Vanilla
from msda_theory.mix_transform import MixTransform
from msda_theory.mixed_loss import mixed_loss
from msda_theory.moments.moments import Moments
from msda_theory.order_ladder import order_ladder
from msda_theory.taylor import Taylor, TaylorCoefficients, taylor
from msda_theory.verify import RemainderOrder, remainder_order

__all__ = [  # noqa: RUF022 (grouped, as the theory is)
    # strategies: laws of (M, lam)
    "Strategy",
    "MaskBatch",
    "Vanilla",
    "Mixup",
    "CutMix",
    "HMix",
    "GMix",
    "Choice",
    "DropMix",
    "strategy",
    "strategies",
    "law_of",
    "MeasuredLaw",
    # moments of q, the weight taken from the partner
    "Moments",
    # data, losses, results with errors
    "ImageData",
    "Loss",
    "SoftmaxCrossEntropy",
    "Logistic",
    "Squared",
    "Estimate",
    # the expansion and its engine
    "expand",
    "Expansion",
    "taylor",
    "Taylor",
    "TaylorCoefficients",
    "kink",
    # the measured loss
    "mixed_loss",
    # mixing batches for training
    "MixTransform",
    # pixel distance
    "coefficient_by_distance",
    "gradient_term_by_displacement",
    "gradient_term_by_distance",
    # the first layer
    "first_layer_form",
    "first_layer_r2",
    # comparison and verification
    "compare",
    "order_ladder",
    "Comparison",
    "Row",
    "remainder_order",
    "RemainderOrder",
]
