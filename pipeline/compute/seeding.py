"""Random streams: one per purpose, derived from the run's seed. No purpose affects another's numbers."""

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in 0..2^63-1 for a purpose, e.g. `derive_seed(0, "noise", step)`; from SHA-256."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(device: str, seed: int, *purpose: str | int) -> torch.Generator:
    """A new generator on a device, seeded for a purpose."""
    generator = torch.Generator(device)
    generator.manual_seed(derive_seed(seed, *purpose))
    return generator


def seed_global(seed: int, *purpose: str | int) -> None:
    """Seed torch's global generators, which initialisation and dropout use."""
    value = derive_seed(seed, *purpose)
    if torch.cuda.is_available():
        torch.manual_seed(value)
    else:  # the same numbers, in a hundredth of the time: without a GPU `manual_seed` keeps a traceback for a later one
        torch.default_generator.manual_seed(value)
