"""The command `audit`: from a target's name to a table, a page, a file and an exit status."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from pipeline.audit.adapters import spread_times
from pipeline.audit.audit_page import render_audit
from pipeline.audit.examination import audit
from pipeline.audit.findings import Audit
from pipeline.audit.images import read_images
from pipeline.audit.objective import LOSSES, Loss
from pipeline.audit.screen import print_screen
from pipeline.audit.target import Target, load_target
from pipeline.report.terminal import open_console
from pipeline.schema.base import SpecError
from pipeline.schema.files import write_file


@dataclass(frozen=True)
class Options:
    """What the command line may say."""

    time: str | None = None
    times: str | None = None
    at: float | None = None
    channels: int | None = None
    data: str | None = None
    html: Path | None = None
    json: Path | None = None
    fail_below: float | None = None
    data_file: Path | None = None
    loss: str | None = None


def parse_times(text: str) -> Sequence[float]:
    """`0:999:11` (from, to, count), or the times themselves with commas.

    Raises:
        SpecError: it is neither.
    """
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        start, stop, count = text.split(":")
        if int(count) < 2:
            raise SpecError(f"--times = {text}: at least two times are needed")
        return spread_times(float(start), float(stop), int(count))
    except SpecError:
        raise
    except ValueError:
        raise SpecError(f"--times = {text}: from:to:count is needed, as 0:999:11, or numbers with commas") from None


def choose_trial(target: Target, options: Options) -> tuple[str | Loss | None, Sequence[Tensor]]:
    """The loss and the images of the trial of a trained network; none without images.

    Raises:
        SpecError: there is a loss without images, or the other way round.
    """
    batches = target.batches if options.data_file is None else read_images(options.data_file)
    if options.loss is not None and batches is None:
        raise SpecError(f"--loss = {options.loss}: images are needed, too: --data-file images.npz")
    loss = options.loss or target.loss
    if options.data_file is not None and loss is None:
        raise SpecError(f"--data-file = {options.data_file}: a loss is needed, too: --loss {' or '.join(LOSSES)}")
    return (None, ()) if batches is None else (loss, batches)


def find_least(found: Audit) -> float | None:
    """The least survival of all sites that a norm follows; 0 where the network does not use the time."""
    return 0.0 if not found.sites and found.output.constant else found.least_survival


def print_audit(root: Path, target: str, options: Options, console: Console | None = None) -> bool:
    """Audit a target and show what was found; says whether too little survives.

    Raises:
        SpecError: it cannot be audited.
    """
    console = console or open_console()
    if options.fail_below is not None and not 0 <= options.fail_below <= 1:
        raise SpecError(f"--fail-below = {options.fail_below:g}: a share from 0 to 1 is needed")
    times = None if options.times is None else parse_times(options.times)
    found = load_target(root, target)
    loss, batches = choose_trial(found, options)
    audited = audit(
        found.network, found.inputs, options.time, times, at=options.at, channels=options.channels,
        data=None if options.data is None else options.data.split(","), loss=loss, batches=batches,
        say=lambda line: console.print(line, markup=False, highlight=False, style="dim"),
    )  # fmt: skip
    print_screen(audited, console)
    if options.html is not None:
        write_file(options.html, render_audit(audited))
    if options.json is not None:
        write_file(options.json, audited.model_dump_json(indent=1) + "\n")
    least, limit = find_least(audited), options.fail_below
    if limit is None or least is None or least >= limit:
        return False
    console.print(f"least survival {least:.3g}, below {limit:g}", style="red", highlight=False)
    return True
