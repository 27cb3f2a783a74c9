"""Collapsed second-order Taylor mode: jets, one rule for each operator, and programs traced from modules."""
