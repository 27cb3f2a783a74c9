"""The bundled data: scikit-learn's digits, standardised, with a held-out split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from msda_theory.data import ImageData


@dataclass(frozen=True, eq=False)
class Split:
    """Training and held-out images in float64."""

    train: ImageData
    test: ImageData


def digits() -> Split:
    """1,797 digits of 8x8 pixels: 1,347 for training, 450 held out, stratified by class.

    Pixels are standardised by the mean and the standard deviation of all training pixels (two numbers, not one pair
    for each pixel: border pixels never vary).
    """
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images.reshape(-1, 1, 8, 8), labels, test_size=450, stratify=labels, random_state=0
    )
    mean, std = x_train.mean(), x_train.std()
    train, test = (
        ImageData(torch.from_numpy((x - mean) / std), torch.from_numpy(y).long(), 10)
        for x, y in ((x_train, y_train), (x_test, y_test))
    )
    return Split(train, test)
