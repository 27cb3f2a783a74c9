"""The augmenters of other libraries as they are installed, imported without what they need elsewhere; oracles only."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
import torch

_LIBRARIES: list[torch.library.Library] = []  # a definition lasts as long as its library


def timm_mixup() -> ModuleType:
    """timm's ``data/mixup.py`` by itself: it needs NumPy and torch only."""
    found = importlib.util.find_spec("timm")
    if found is None or not found.submodule_search_locations:
        pytest.skip("timm is not installed: pip install -c constraints.txt timm")
    path = f"{next(iter(found.submodule_search_locations))}/data/mixup.py"
    spec = importlib.util.spec_from_file_location("timm_data_mixup", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchvision_v2() -> ModuleType:
    """``torchvision.transforms.v2``.

    The registry's build has compiled operators for another torch than the CPU build; its import fails where it
    registers shapes for two of them. Declaring these two is enough for the transforms, which use none.
    """
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: pip install -c constraints.txt torchvision")
    try:
        import torchvision.transforms.v2 as v2
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision.transforms.v2 as v2
    return v2
