"""Experiments: one question a file. Each has a frozen config (its command line), ``run`` and one JSON record."""
