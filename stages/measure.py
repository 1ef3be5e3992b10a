"""measure STUDY CASE ARM SEED: a run of a study that measures in one step -> evaluations/STUDY/CASE/ARM/SEED.json."""

from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import require_closure
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import open_run, parse_arguments
from pipeline.schema.arm import list_parts
from pipeline.schema.record import evaluation_path, list_settings, write_record
from pipeline.schema.study import find_study

ROOT = Path()


def main() -> None:
    name, case, arm, seed = parse_arguments(__doc__, study=str, case=str, arm=str, seed=int)
    study = find_study(name)
    if study.measure is None:
        raise ValueError(f"the study {name!r} has stages of its own")
    require_closure(name)
    work = open_run(name, case, arm, seed)
    tune_process(work.compute.threads, work.compute.portable)
    device = choose_device(work.compute)
    parts = {part: getattr(work.run, part) for part in list_parts(study.run)}
    settings = list_settings(**parts, compute=work.compute)
    out = evaluation_path(ROOT, name, case, arm, seed)
    write_record(out, study.measure(work.run).model_copy(update={"settings": settings}))
    write_provenance(f"evaluate/{work.name}", out, work.compute, device=device)


if __name__ == "__main__":
    run_stage(main)
