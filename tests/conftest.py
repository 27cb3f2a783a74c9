"""Puts this folder on the path, so that tests in subfolders share `reference`, `mc_checks` and `mask_cases`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
