"""evaluate_node CASE ARM SEED: accuracy, NLL, NFE, use of time -> evaluations/node/CASE/ARM/SEED.json."""

from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.foreign import read_trained
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import parse_arguments
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure, evaluation_path, list_settings, write_record
from pipeline.studies.node.study import NodeRun

ROOT = Path()


def main() -> None:
    case, arm, seed = parse_arguments(__doc__, case=str, arm=str, seed=int)
    name = f"node/{case}/{arm}/{seed}"
    folder, out = ROOT / "runs" / name, evaluation_path(ROOT, "node", case, arm, seed)
    run, compute = read_trained(folder / "run.json", NodeRun)
    tune_process(compute.threads, compute.portable)
    if (folder / "failure.json").is_file():
        settings = list_settings(network=run.network, training=run.training, compute=compute)
        failure = read_document(folder / "failure.json", Failure)
        write_record(out, failure.model_copy(update={"settings": settings}))
        return

    from pipeline.data.arrays import read_split
    from pipeline.studies.node.evaluate import evaluate_node

    device = choose_device(compute)
    test = read_split(ROOT / "data" / "node" / case / "test.safetensors")
    write_record(out, evaluate_node(run, folder, test, compute, device))
    write_provenance(f"evaluate/{name}", out, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
