"""measure STUDY CASE ARM SEED: a run of a study that measures in one step -> evaluations/STUDY/CASE/ARM/SEED.json.

It runs on the CPU: what is measured in one step is small.
"""

import sys
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import require_closure
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import open_run, parse_arguments
from pipeline.schema.arm import list_parts
from pipeline.schema.record import Failure, evaluation_path, list_settings, write_record
from pipeline.schema.study import MeasuredRecord, MeasureError, find_study

ROOT = Path()


def main() -> None:
    name, case, arm, seed = parse_arguments(__doc__, study=str, case=str, arm=str, seed=int)
    study = find_study(name)
    if study.measure is None:
        raise ValueError(f"the study {name!r} has stages of its own")
    require_closure(name)
    work = open_run(name, case, arm, seed)
    tune_process(work.compute.threads, work.compute.portable)
    device = choose_device(work.compute.model_copy(update={"device": "cpu"}))
    parts = {part: getattr(work.run, part) for part in list_parts(type(work.run))}
    settings = list_settings(**parts, compute=work.compute)
    record: MeasuredRecord | Failure
    try:
        record = study.measure(work.run).model_copy(update={"settings": settings})
    except MeasureError as error:
        print(f"{work.name} failed: {error}", file=sys.stderr)
        record = Failure(epoch=1, step=error.step, reason=str(error), settings=settings)
    out = evaluation_path(ROOT, name, case, arm, seed)
    write_record(out, record)
    write_provenance(f"evaluate/{work.name}", out, work.compute, device=device)


if __name__ == "__main__":
    run_stage(main)
