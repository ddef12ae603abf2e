"""Seeds made of several integers."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(seed: int, *parts: int) -> int:
    """A 63-bit seed from several integers, by the finaliser of SplitMix64 (Steele, Lea & Flood 2014).

    Neighbouring seeds and steps give unrelated results, so seed 0 in epoch 1 is not seed 1 in epoch 0.
    """
    state = 0
    for part in (seed, *parts):
        state = (state + (part & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
