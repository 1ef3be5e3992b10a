"""Files of a training's averaged weights, in its folder: of each snapshot, and each length that `ema=power` stores."""

from pathlib import Path


def name_snapshot(step: int) -> str:
    """File name of the averaged weights after `step` steps."""
    return f"ema-{step:07d}.safetensors"


def name_stored(length: float, step: int) -> str:
    """File name of the averaged weights of another length, which `ema=power` stores beside them."""
    return f"power-{length:.2f}-{step:07d}.safetensors"


def find_snapshots(folder: Path) -> dict[int, Path]:
    """Files of a training's averaged weights, by step, ascending."""
    found = {int(path.stem.removeprefix("ema-")): path for path in folder.glob("ema-*.safetensors")}
    return dict(sorted(found.items()))
