"""The schedules of the study, from its fields."""

from pipeline.diffusion.continuous import amplify_noise, linear_path, trigonometric_path
from pipeline.diffusion.path import Schedule
from pipeline.diffusion.time_change import TimeChange, bend, straighten_noise
from pipeline.studies.schedules.study import Path


def make_path(path: Path, dimension: int) -> Schedule:
    """The schedule of an arm: time 1 is the noise.

    Dilated ones give half of the steps to each phase. vp: the weight is settled while alpha is of the order
    1 / sqrt(d), next to the noise. ve: the spread is settled while sigma is of the order 1, next to the data.
    """
    schedule: Schedule = linear_path if path.shape == "linear" else trigonometric_path
    if path.schedule.startswith("ve"):
        schedule = amplify_noise(schedule, dimension**0.5)
    return _choose_change(path, dimension).dilate(schedule)


def _choose_change(path: Path, dimension: int) -> TimeChange:
    width = path.k / dimension**0.5
    if path.schedule == "vp_dilated":
        return bend(1 - width)
    if path.schedule == "ve_dilated":
        return bend(width) if path.shape == "linear" else straighten_noise(width)
    return bend(0.5)
