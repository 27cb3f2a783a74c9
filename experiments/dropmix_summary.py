"""Summary of the study of DropMix: accuracies, paired differences, sweeps, hardness, information, expansion."""

from __future__ import annotations

from typing import Any


def summary(found: list[tuple[str, Any, dict[str, Any]]], config: Any) -> dict[str, Any]:
    return {"n": len(found)}
