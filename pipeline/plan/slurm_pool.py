"""Stages as jobs of Slurm, submitted through submitit, on machines that share the project's folder."""

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.pool import Ended, begin_log, find_log, log_problem, write_mark
from pipeline.run.remote import RemoteStage
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute

_JOBS = 100
"""Submitted at once; Slurm decides how many of them run."""
_MINUTES = 240
"""Of a job, if the options do not say; then it is queued again and goes on."""
_LOOK_SECONDS, _LOST_SECONDS = 2.0, 20.0
"""Between two looks at the jobs; and after which a job that Slurm no longer knows has left no result: a file that
another machine wrote may take that long to be seen."""


def _ask_slurm(*command: str) -> str | None:
    """What a command of Slurm's says; None: it failed, as while its controller restarts."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _list_queued() -> set[str] | None:
    """Ids of this user's jobs that have not ended; None: not known now."""
    found = _ask_slurm("squeue", "--me", "--noheader", "--format=%A")
    return None if found is None else set(found.split())


def _find_folder(root: Path) -> Path:
    """The folder of the jobs: submitit's, with a file for each."""
    return root / "logs" / "slurm"


def end_left_jobs(root: Path) -> None:
    """End jobs of a driver that was killed: a stage must not run twice.

    Raises:
        SpecError: Slurm does not say whether any are left.
    """
    folder = _find_folder(root)
    left = {path.name.split("_")[0] for path in folder.glob("*_submitted.pkl")}
    while left:
        if (queued := _list_queued()) is None:
            raise SpecError(f"{folder}: jobs of an earlier run may be left there, and `squeue --me` does not work here")
        if not (left := left & queued):
            break
        _ask_slurm("scancel", *left)
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)


def _make_executor(root: Path, compute: Compute, options: Sequence[str]) -> Any:
    """submitit's executor, with one task a job."""
    try:
        from submitit import SlurmExecutor
    except ImportError:
        raise SpecError("--slurm: submitit is not installed here: pip install '.[cluster]'") from None
    chosen: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise SpecError(f"--slurm-options: {option!r} is not KEY=VALUE, as in partition=gpu")
        chosen[key.replace("-", "_")] = int(value) if value.isdecimal() else value
    settings = {"time": _MINUTES, "cpus_per_task": compute.threads, "job_name": "pipeline"}
    if compute.device == "cuda" or (compute.device == "auto" and "gpu" in (_ask_slurm("sinfo", "-ho", "%G") or "")):
        settings["gpus_per_node"] = 1
    try:
        executor = SlurmExecutor(_find_folder(root), max_num_timeout=1_000_000)
        known = executor._valid_parameters()
        others = {key.replace("_", "-"): value for key, value in chosen.items() if key not in known}
        mine = {key: value for key, value in chosen.items() if key in known}
        executor.update_parameters(**settings | mine, additional_parameters={"requeue": True} | others)
    except (RuntimeError, ValueError) as error:
        raise SpecError(f"--slurm: {str(error).splitlines()[0]}") from None
    return executor


class Job(RemoteStage):
    """A stage in a job of Slurm."""

    def checkpoint(self) -> Any:
        """What submitit calls shortly before the job's time is over: the stage saves its state; the job comes again."""
        from submitit.helpers import DelayedSubmission

        self.end()
        return DelayedSubmission(self)


class SlurmPool:
    """One job a stage: with a GPU each, or with as many CPUs as a stage has threads.

    Args:
        options: of `sbatch`, KEY=VALUE.

    Raises:
        SpecError: submitit or Slurm is not there, or an option is wrong.
    """

    def __init__(self, root: Path, compute: Compute, options: Sequence[str]) -> None:
        self._root = root
        self._executor = _make_executor(root, compute, options)
        if _list_queued() is None:
            raise SpecError("--slurm: `squeue --me` does not work here: is this a machine of a Slurm cluster?")
        self._gpu = bool(self._executor.parameters.get("gpus_per_node")) or any("gpu" in option for option in options)
        self._mark, self._token = write_mark(root)
        self._jobs: dict[str, Any] = {}
        self._limit = _JOBS
        self._unsubmitted: dict[str, str] = {}
        self._refused: list[Ended] = []
        self._missing: dict[str, float] = {}
        self._looked, self._asked = 0.0, False

    @property
    def count(self) -> int:
        """Jobs that are queued or run."""
        return max(1, len(self._jobs))

    def has_room(self, name: str) -> bool:
        """Whether another job may be submitted."""
        return not self._unsubmitted and len(self._jobs) < self._limit

    def start(self, name: str, command: str) -> None:
        """Submit a stage; later, if Slurm takes no more jobs of this user's now."""
        begin_log(self._root, name)
        self._unsubmitted[name] = command
        self._submit()

    def _submit(self) -> None:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        for name, command in list(self._unsubmitted.items()):
            log = find_log(self._root, name)
            job = Job(self._root, name, command, log, self._mark, self._token, self._gpu, asks=signal.SIGTERM)
            try:
                self._jobs[name] = self._executor.submit(job)
            except (FailedJobError, FailedSubmissionError) as error:
                if self._jobs:
                    self._limit = len(self._jobs)
                    return
                log_problem(self._root, name, str(error))
                self._refused.append(Ended(name, 1))
            del self._unsubmitted[name]

    def collect(self) -> list[Ended]:
        """The stages that have ended since the last call. Where a job left no result, the stage's log says so."""
        ended, self._refused = self._refused, []
        now = time.monotonic()
        if not self._jobs or now - self._looked < _LOOK_SECONDS:
            return ended
        self._looked, queued = now, _list_queued()
        for name, job in list(self._jobs.items()):
            if (status := self._find_status(name, job, queued)) is not None:
                del self._jobs[name]
                self._missing.pop(name, None)
                ended.append(Ended(name, status))
        self._submit()
        return ended

    def _find_status(self, name: str, job: Any, queued: set[str] | None) -> int | None:
        """Exit status of a job's stage; None: it has not ended.

        Args:
            queued: ids of jobs that Slurm knows, looked up before the result: a job leaves it first.
        """
        if job.paths.result_pickle.exists():
            outcome, result = job._get_outcome_and_result()
            if outcome == "success":
                return int(result)
            log_problem(self._root, name, str(result).strip().splitlines()[-1])
            return 1
        if queued is None or job.job_id in queued:
            self._missing.pop(name, None)
            return None
        now = time.monotonic()
        if not self._asked and now - self._missing.setdefault(name, now) < _LOST_SECONDS:
            return None
        log_problem(self._root, name, f"job {job.job_id} of Slurm ended without a result: {job.paths.stderr}")
        return -signal.SIGTERM if self._asked else 1

    def wait(self, seconds: float) -> None:
        """Sleep so long."""
        time.sleep(seconds)

    def send(self, number: int) -> None:
        """Take waiting jobs out of the queue, and send a signal to the others' stages."""
        self._asked = True
        self._refused += [Ended(name, -signal.SIGTERM) for name in self._unsubmitted]
        self._unsubmitted.clear()
        if ids := [job.job_id for job in self._jobs.values()]:
            _ask_slurm("scancel", "--state=PENDING", *ids)
            _ask_slurm("scancel", f"--signal={signal.Signals(number).name[3:]}", *ids)

    def close(self) -> None:
        """Remove the files of the jobs, if none was left; else the next run ends what is left."""
        if not self._jobs:
            shutil.rmtree(_find_folder(self._root), ignore_errors=True)
