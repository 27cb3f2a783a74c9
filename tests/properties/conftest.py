"""Silences one warning: the type checker of the test run samples items with `random` while strategies are built."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"))
