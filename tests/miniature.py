"""Studies in miniature, evaluation included: prints a digest of each file that they write.

    PYTHONPATH=. python tests/miniature.py [--native]

It prints the same on every x86-64 CPU with AVX2, one that QEMU emulates included; --native leaves kernels to the CPU.

    PYTHONPATH=.:$(python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
      qemu-x86_64 -cpu Haswell-v4 "$(realpath "$(command -v python)")" tests/miniature.py
"""

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.schema.compute import Compute
from pipeline.schema.data import ClassifierExtractor
from pipeline.schema.document import write_document
from pipeline.schema.record import write_record
from pipeline.schema.reference import ExtractorFile
from pipeline.schema.resolved import describe_run
from pipeline.schema.scores import Evaluation
from pipeline.schema.study import find_study, load_study_spec, resolve_later, resolve_run

if TYPE_CHECKING:
    from pipeline.data.arrays import Split

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 10  # an emulator takes a hundred times as long


def resolve(study: str, case: str, arm: str, **training: object) -> Any:
    """A run of the committed specs with seed 0, and a budget of its own."""
    run: Any = resolve_run(find_study(study), load_study_spec(ROOT, study), case, arm, 0)[0]
    if not training:
        return run
    return run.model_copy(update={"training": run.training.model_copy(update=training)})


def make_splits(images: int, size: int) -> list["Split"]:
    """Random images, for training and test: to read the digits is minutes of imports, and only whole numbers."""
    import numpy as np

    from pipeline.data.arrays import Split

    random = np.random.default_rng(0)
    return [
        Split(random.integers(0, 256, (count, 1, size, size), dtype=np.uint8), random.integers(0, 10, count), 10)
        for count in (images, 2)
    ]


def study_node(out: Path, compute: Compute) -> None:
    """Train the digits' baseline for two steps, and evaluate it."""
    from pipeline.run.checkpoint import Checkpoint
    from pipeline.studies.node.evaluate import evaluate_node
    from pipeline.studies.node.train import train_node

    run = resolve("node", "digits", "baseline", epochs=1, batch_size=2)
    train, test = make_splits(4, 12)
    checkpoint, settings = Checkpoint(out / "state", "node", 5), describe_run(run, compute)
    assert train_node(run, train, test, compute, "cpu", out / "node", checkpoint, settings) is None
    write_record(out / "node.json", evaluate_node(run, out / "node", test, compute, "cpu"))


def study_ddpm(out: Path, compute: Compute, arm: str = "position=mlp") -> None:
    """Train an arm for two steps, sample from it, and evaluate the samples."""
    from pipeline.metrics.extractor import train_extractor
    from pipeline.metrics.features import load_extractor, write_reference
    from pipeline.run.checkpoint import Checkpoint
    from pipeline.run.workers import Worker
    from pipeline.schema.document import read_document
    from pipeline.schema.files import digest_file
    from pipeline.studies.ddpm.evaluate import Folders, evaluate_ddpm
    from pipeline.studies.ddpm.sampler import sample_ddpm
    from pipeline.studies.ddpm.sampling_trace import trace_sampling
    from pipeline.studies.ddpm.study import SampleSets
    from pipeline.studies.ddpm.train import train_ddpm

    train, test = make_splits(IMAGES, 8)
    run = resolve("ddpm", "digits", arm, steps=2, batch_size=2, warmup=1, snapshot_every=2)
    checkpoint, settings = Checkpoint(out / "state", "ddpm", 5), describe_run(run, compute)
    assert train_ddpm(run, train, compute, "cpu", out / "ddpm", checkpoint, settings) is None
    plan: Any = resolve_later(find_study("ddpm"), load_study_spec(ROOT, "ddpm"), "digits")["sampling"]
    plan = plan.model_copy(update={"images": IMAGES, "sets": 1, "steps": 2})
    checkpoints, trace = [Checkpoint(out / "state", "s", 5)], trace_sampling(run, plan)
    sample_ddpm(run, out / "ddpm", plan, compute, "cpu", out / "samples", checkpoints, Worker(), trace)

    classifier = ClassifierExtractor(kind="classifier", features=8, epochs=1, batch_size=5, learning_rate=1e-3, seed=0)
    accuracy = train_extractor(classifier, train, test, "cpu", out / "extractor")
    digest = digest_file(out / "extractor" / "weights.safetensors")
    about = ExtractorFile(kind="classifier", sha256=digest, features=8, channels=1, classes=10, test_accuracy=accuracy)
    write_document(out / "extractor" / "extractor.json", about)
    write_reference(out / "reference", train, IMAGES, load_extractor(out / "extractor", "cpu", batch_size=5))
    evaluation = Evaluation(isc_splits=2, kid_subsets=2, kid_subset_size=IMAGES, batch_size=5)
    folders = Folders(out / "ddpm", out / "samples", out / "extractor", out / "reference")
    samples = read_document(out / "samples" / "samples.json", SampleSets)
    record = evaluate_ddpm(run, compute, samples, folders, train, test, evaluation, classifier, "cpu")
    write_document(out / "scores.json", record.sets[0])
    protocol = record.protocol.model_copy(update={"versions": {}})  # of packages: a new lock is no new result
    write_record(out / "ddpm.json", record.model_copy(update={"protocol": protocol}))


def score_noise(out: Path) -> None:
    """The noise of sampling, and scores of random features, wide enough for the libraries' blocked kernels."""
    import numpy as np
    import torch

    from pipeline.diffusion.noise import draw_noise
    from pipeline.metrics.classification import measure_nll
    from pipeline.metrics.generative import Features, measure_scores, measure_statistics

    draws = np.random.default_rng(0).standard_normal((2, 200, 74))
    logits = draws[0, :, :10]
    sides = [torch.from_numpy(side.astype(np.float32)) for side in draws]
    found = Features(sides[0][:, 10:], sides[0][:, :10], sides[0][:, :10])
    evaluation = Evaluation(isc_splits=2, kid_subsets=2, kid_subset_size=100, batch_size=5)
    write_document(out / "noise.json", measure_scores(found, measure_statistics(sides[1][:, 10:]), evaluation))
    noise = draw_noise(0, torch.arange(50), 0, (1, 8, 8))
    (out / "noise.bin").write_bytes(noise.numpy().tobytes())
    (out / "nll.txt").write_text(repr(measure_nll(logits, np.arange(200) % 10)))


def study_theory(out: Path) -> None:
    """All designs of theory, of narrow functions and one seed."""
    from pipeline.studies.theory.measure import measure_theory

    run = resolve("theory", "features", "baseline")
    run = run.model_copy(update={"design": run.design.model_copy(update={"channels": 4})})
    write_record(out / "theory.json", measure_theory(run))


def study_worth(out: Path) -> None:
    """The digits, which have a mean and a covariance of their own, with few images."""
    from pipeline.studies.worth.measure import measure_worth

    run = resolve("worth", "gaussian", "spectrum=digits")
    run = run.model_copy(update={"data": run.data.model_copy(update={"samples": 100})})
    write_record(out / "worth.json", measure_worth(run))


def study_linear(out: Path) -> None:
    """Small matrices, a short training, and both flows."""
    from pipeline.studies.linear.measure import measure_linear

    run = resolve("linear", "matrix", "size=8,rank=2,time=3.0")
    write_record(out / "linear.json", measure_linear(run))


def study_schedules(out: Path) -> None:
    """Few samples of the mixture under a dilated schedule, and few spins."""
    from pipeline.studies.schedules.measure import measure_schedule

    for case, arm in (("mixture", "schedule=vp_dilated,samples=100"), ("curie_weiss", "spins=100,samples=10")):
        write_record(out / f"schedules_{case}.json", measure_schedule(resolve("schedules", case, arm)))


def study_phases(out: Path) -> None:
    """Each case, with few samples and a short training."""
    from pipeline.studies.phases.measure import measure_phases

    arms = {
        "overlaps": "dimension=25,times=2,steps=10,batch_size=4",
        "uturn": "steps_back=10,samples=100",
        "budget": "dimension=25,width=8,density=windowed,grid=10,drawn=400,steps=50,batch_size=8",
        "digits": "heavy=0.5,width=8,density=windowed,grid=10,drawn=400,steps=50,batch_size=8",
    }
    for case, arm in arms.items():
        write_record(out / f"phases_{case}.json", measure_phases(resolve("phases", case, arm)))


def study_edm2(out: Path) -> None:
    """Averages of a short trajectory, and an untrained block; the ladder reads the digits, which is minutes here."""
    from pipeline.studies.edm2.measure import measure_edm2

    run = resolve("edm2", "post_hoc", "snapshots=2,averaged_steps=16,values=8")
    write_record(out / "edm2-averages.json", measure_edm2(run))
    write_record(out / "edm2-block.json", measure_edm2(resolve("edm2", "block", "width=4,pixels=2,inputs=2")))


def study_full(out: Path) -> None:
    """A solver, a bound, a known loss and a small network."""
    from pipeline.studies.full.measure import measure_full

    arms = {
        "gaussian": "steps=4",
        "mixture": "size=100",
        "ramp": "batch=4,repeats=100",
        "learned": "steps=2,updates=10,batch_size=4,hidden=4",
    }
    for case, arm in arms.items():
        write_record(out / f"full-{case}.json", measure_full(resolve("full", case, arm)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--native", action="store_true", help="not portable: the CPU's own kernels")
    portable = not parser.parse_args().native
    tune_process(1, portable)
    compute = Compute(device="cpu", portable=portable)
    choose_device(compute)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        study_node(out, compute)
        study_ddpm(out, compute)
        score_noise(out)
        study_theory(out)
        study_worth(out)
        study_linear(out)
        study_schedules(out)
        study_phases(out)
        study_edm2(out)
        study_full(out)
        for path in sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"):
            print(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(out).as_posix())


if __name__ == "__main__":
    main()
