"""Mask laws: one strategy a file, with its law, sampler, exact moments and citation."""
