"""HDR -> what a screen without it shows: PQ or HLG light of BT.2020 -> sRGB."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Light = NDArray[np.float32]

_TO_BT709: _Light = np.array(  # https://www.itu.int/rec/R-REC-BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
WHITE_NITS = 203.0
"""Of paper, in HDR: https://www.itu.int/pub/R-REP-BT.2408"""
_PEAK = 1000.0 / WHITE_NITS


def _from_pq(signal: _Light) -> _Light:
    """SMPTE ST 2084: signal from 0 to 1 -> light, 1 being white paper."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    light: _Light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light * (10_000 / WHITE_NITS)


def _from_hlg(signal: _Light) -> _Light:
    """ARIB STD-B67, on a screen of 1000 nits, whose light is the scene's to a power."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = (np.exp((signal - c) / a) + b) / 12
    scene: _Light = np.where(signal <= 0.5, signal**2 / 3, bright).astype(np.float32)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    gain = np.maximum(luma, 1e-6)[..., None] ** 0.2 * _PEAK
    lit: _Light = (scene * gain).astype(np.float32)
    return lit


FROM_SIGNAL: dict[int, Callable[[_Light], _Light]] = {16: _from_pq, 18: _from_hlg}
"""By the number that a file gives the transfer: https://www.itu.int/rec/T-REC-H.273"""


def to_srgb(signal: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """(height, width, 3) BT.2020 signal of 16 bits -> sRGB; highlights are rolled off."""
    known = FROM_SIGNAL[transfer]((signal / 65535).astype(np.float32))
    light: _Light = known @ _TO_BT709.T
    light = np.maximum(light, 0)
    brightest = light.max(-1, keepdims=True)
    # Up to white nearly as it is, above it ever less, the brightest that there is at 1: extended
    # Reinhard on the largest channel, so that colours keep their hue.
    rolled = brightest * (1 + brightest / _PEAK**2) / (1 + brightest)
    linear = np.clip(light * rolled / np.maximum(brightest, 1e-6), 0, 1)
    curve: Any = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    encoded: NDArray[np.uint8] = (curve * 255 + 0.5).astype(np.uint8)
    return encoded
