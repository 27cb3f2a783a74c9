"""Is training on the expansion the same as training by mixing?

If MSDA *is* a regularizer (claim C1), then minimising the expansion of the mixed loss without mixing a single image,
at equal steps, should give the networks that MSDA gives. Here the expansion at the data (L + R1, + R2, + R1 + R2,
+ R1 + R2 + R3), at the conditional mean and at the mask (base, Gauss-Newton, with R3) are minimised directly, through
the second-order engine, with the optimiser, the initial weights and the batches of training by mixing, and compared
with it: test accuracy, the measured mixed loss, predictions on test images, clean and mixed, and input gradients.
Softplus and ReLU networks on digits; for ReLU R3 is 0, so nothing with R3 is trained.

Two yardsticks: training without mixing (share 0), and a second training by mixing with other masks and partners, which
says how near two trainings on the same loss come (share 1 of predictions).

Checks, which must hold: networks trained by mixing or without reach ``min_accuracy``; mixing lowers the measured mixed
loss, in every cell, so that shares mean something. Expectations, set down before the first run and reported whatever
comes of them:

- order: the share of MSDA's drop of the mixed loss rises from data-r1r2 over mean-gn to mask-gn;
- mask: mask-gn, mean replacement plus structured noise, reproduces at least 90 % of that drop;
- near: mask-gn brings predictions on mixed images at least half the way from vanilla's to MSDA's own spread;
- noise: the Gauss-Newton term is needed: mask-base alone reproduces less than mask-gn;
- r2: R2 alone at the data reproduces less than half of the drop;
- unbounded: what has R1 or R3 at the data is unbounded below, and training on data-all diverges or ends with a larger
  mixed loss than vanilla (softplus);
- hessian: R3 around either mean makes it worse (softplus).

Cost: about 2 to 12 s a network on one core. Record: ``theory_training.json``.
"""
