"""Figures, from records alone: one file a figure."""
