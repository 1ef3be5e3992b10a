"""train_node CASE ARM SEED: train one classifier -> runs/node/CASE/ARM/SEED/."""

import sys
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import require_closure
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import open_run, parse_arguments
from pipeline.schema.files import digest_file

ROOT = Path()


def main() -> None:
    case, arm, seed = parse_arguments(__doc__, case=str, arm=str, seed=int)
    work = open_run("node", case, arm, seed)
    compute, minutes = work.compute, work.resources.checkpoint_minutes
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.run.checkpoint import fingerprint_work, open_checkpoint
    from pipeline.run.live import LiveHistory
    from pipeline.studies.node.train import train_node

    device = choose_device(compute)
    data = [ROOT / "data" / "node" / case / f"{split}.safetensors" for split in ("train", "test")]
    train, test = (read_split(path) for path in data)
    digests = [digest_file(path) for path in data]
    fingerprint = fingerprint_work(require_closure("train_node"), work.settings, data=digests, device=device)
    checkpoint = open_checkpoint(ROOT, work.name, fingerprint, minutes)
    live, out = LiveHistory(ROOT, work.run), ROOT / "runs" / work.name
    failure = train_node(work.run, train, test, compute, device, out, checkpoint, work.settings, live)
    live.close()
    if failure is not None:  # recorded, and shown by the tables; the other runs go on
        print(f"{work.name}: the run failed: {failure}", file=sys.stderr)
    write_provenance(work.name, out, compute, checkpoint.earlier, device=device)


if __name__ == "__main__":
    run_stage(main)
