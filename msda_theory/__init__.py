"""msda_theory: the theory of mixed-sample data augmentation, computed and checked."""
