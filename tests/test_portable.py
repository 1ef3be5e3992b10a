"""The same bytes on every x86-64 CPU with AVX2 (`compute.portable`): this one, and an emulated one of another maker."""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from problems import ROOT
from trainings import COMPUTE

from pipeline.compute import cpu
from pipeline.compute.cpu import PORTABLE, describe_cpu, lacks_avx2, name_cpu
from pipeline.compute.device import choose_device
from pipeline.schema.base import SpecError
from pipeline.schema.compute import load_compute

REQUIRED = os.environ.get("PIPELINE_EMULATOR") == "required"
EMULATOR = shutil.which("qemu-x86_64")
OTHER = "Haswell-v4" if describe_cpu().startswith("AuthenticAMD") else "EPYC-v3"
"""A CPU of the other maker than this one's: Intel and AMD have their own estimates of 1 / x, caches and features."""
GOLDEN = ROOT / "tests" / "golden" / "miniature.txt"
"""What tests/miniature.py printed where the committed results were made; after a change of numerics, what it prints."""
X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or lacks_avx2(), reason="needs AVX2")


def start(*options: str, model: str | None = None, **variables: str) -> "subprocess.Popen[str]":
    """tests/miniature.py, on this CPU or an emulated one."""
    emulator = [] if model is None else [str(EMULATOR), "-cpu", model]
    # An emulated interpreter has to be named itself, and then knows no virtual environment.
    paths = [str(ROOT), sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables}
    command = [*emulator, os.path.realpath(sys.executable), str(ROOT / "tests/miniature.py"), *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, str]:
    """Digests by file."""
    printed, error = process.communicate()
    assert process.returncode == 0, error
    return read_digests(printed)


def read_digests(printed: str) -> dict[str, str]:
    return {name: digest for digest, name in (line.split(" ", 1) for line in printed.splitlines())}


@X86
@pytest.mark.ci
@pytest.mark.skipif(EMULATOR is None and not REQUIRED, reason="no qemu-x86_64")
def test_an_emulated_cpu_of_another_maker_gives_the_same_bytes():
    assert EMULATOR is not None, "no qemu-x86_64"
    other = start(model=OTHER)
    # What a user's environment may have preset.
    here = finish(
        start(OPENBLAS_CORETYPE="Prescott", OPENBLAS_L2_SIZE="64", MKL_CBWR="SSE4_2", NPY_ENABLE_CPU_FEATURES="X86_V3")
    )
    assert {name.split("/")[0] for name in here} >= {
        "node", "node.json", "ddpm", "ddpm.json", "extractor", "scores.json", "theory.json", "worth.json",
        "linear.json",
    }  # fmt: skip
    assert here == read_digests(GOLDEN.read_text())
    assert finish(other) == here
    # That the comparison can fail: this CPU's own kernels give other bytes.
    native = finish(start("--native"))
    assert native.keys() == here.keys()
    assert native["node/last.safetensors"] != here["node/last.safetensors"]
    assert native["ddpm/last.safetensors"] != here["ddpm/last.safetensors"]


def test_numpy_has_no_kernels_that_the_settings_do_not_know():
    """Another version of NumPy may have new names."""
    from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched

    if platform.machine() in ("x86_64", "AMD64"):
        assert set(dispatched) == {"X86_V3", *PORTABLE["NPY_DISABLE_CPU_FEATURES"].split()}


STAGES = ["architecture", "evaluate_ddpm", "evaluate_node", "extractor", "fetch", "measure", "reference"]
STAGES += ["sample", "train_ddpm", "train_node"]
SPY = """
import importlib, os, sys
from pipeline.compute import threads
from pipeline.schema.compute import Compute
seen = []
def spy(*given):
    assert not {"numpy", "torch"} & sys.modules.keys(), "already loaded"
    seen.append(given)
    threads.make_portable()
    raise SystemExit
name, *arguments = sys.argv[1:]
sys.argv = [name, *arguments]
module = importlib.import_module(f"stages.{name}")
module.tune_process = spy
if name == "evaluate_node":  # which computes as the run did, of which there is none here
    module.read_trained = lambda *_: (None, Compute())
try:
    module.main()
finally:
    assert seen in ([()], [(1, True)]), seen
    print({key: os.environ.get(key) for key in %r} == %r)
""" % (list(PORTABLE), PORTABLE)  # noqa: UP031 - braces


@X86
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_sets_them_before_it_loads_what_reads_them(stage: str):
    arguments = {
        "architecture": [], "measure": ["theory", "features", "baseline", "0"], "fetch": ["node", "digits"],
        "extractor": ["ddpm", "digits"], "reference": ["ddpm", "digits"],
    }.get(stage, ["digits", "baseline", "0"])  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key not in PORTABLE}
    environment |= {"PYTHONPATH": str(ROOT), "OPENBLAS_CORETYPE": "Prescott"}
    command = [sys.executable, "-c", SPY, stage, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("True\n", "")


def tune(code: str, **variables: str) -> str:
    environment = {**{key: value for key, value in os.environ.items() if key not in PORTABLE}, **variables}
    code = f"import os\nfrom pipeline.compute.threads import tune_process\n{code}"
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@X86
@pytest.mark.slow
def test_presets_hold_where_the_run_is_not_portable_and_yield_where_it_is():
    preset = {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_L2_SIZE": "64", "MKL_NUM_THREADS": "7"}
    code = "print([os.environ.get(name) for name in ('OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE', 'MKL_NUM_THREADS')])"
    assert tune(f"tune_process(2, False); {code}", **preset) == "['Prescott', '64', '2']"
    assert tune(f"tune_process(); {code}", **preset) == "['Haswell', None, '1']"
    # Its children inherit them: a second call has nothing to do, and no warning comes of names that a CPU lacks.
    assert tune(f"tune_process(); import numpy, torch; tune_process(); {code}") == "['Haswell', None, '1']"
    assert tune("tune_process()\nfrom pipeline.compute.cpu import is_portable; print(is_portable())") == "True"


@X86
def test_too_late_is_a_mistake_of_ours():
    late = "import numpy\ntry:\n    tune_process()\nexcept AssertionError as error:\n    print(error)"
    assert tune(late).startswith("too late")


def test_what_cannot_be_portable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (ROOT / "params.yaml").read_text()
    assert load_compute(ROOT).portable
    for old, new, says in (
        ("threads: 1", "threads: 2", "portable = true: several threads"),
        ("compile: false", "compile: true", "portable = true: compile = true"),
    ):
        changed = text.replace(old, new)
        (tmp_path / "params.yaml").write_text(changed)
        with pytest.raises(SpecError, match=rf"params\.yaml: line \d+: compute: {says}") as refused:
            load_compute(tmp_path)
        assert "\n" not in str(refused.value)
        for allowed in (("device: auto", "device: cuda"), ("portable: true", "portable: false")):
            (tmp_path / "params.yaml").write_text(changed.replace(*allowed))
            load_compute(tmp_path)
    monkeypatch.setattr("pipeline.compute.device.lacks_avx2", lambda: True)
    assert choose_device(COMPUTE.model_copy(update={"portable": False})) == "cpu"
    with pytest.raises(ValueError, match=r"compute\.portable = true: this CPU has no AVX2; set it to false"):
        choose_device(COMPUTE.model_copy(update={"portable": True}))


def test_cpus_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu, "_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu, "_CACHES", tmp_path)
    assert describe_cpu() == name_cpu() == (platform.processor() or platform.machine())
    lines = {"vendor_id": "AuthenticAMD", "cpu family": 25, "model": 1, "model name": "AMD EPYC", "stepping": 1}

    def describe(flags: str, **others: object) -> str:
        text = "".join(f"{key}\t: {value}\n" for key, value in {**lines, "flags": flags, **others}.items())
        (tmp_path / "cpuinfo").write_text(f"{text}\n{text}")
        return describe_cpu()

    for index, (level, kind, size) in enumerate([(1, "Data", "32K"), (3, "Unified", "32768K")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    plain, wide = describe("sse avx2"), describe("sse avx2 avx512f")
    assert plain.startswith("AuthenticAMD 25/1/1, L1d 32K, L3 32768K, flags ")
    assert len({plain, wide, describe("sse avx2", stepping=2)}) == 3
    assert describe("avx2 sse") == plain
    assert name_cpu() == "AMD EPYC"
    assert not lacks_avx2()
    describe("sse")
    assert lacks_avx2() == (platform.machine() == "x86_64")


def test_provenance_says_which_cpu_and_whether_it_mattered(tmp_path: Path):
    (tmp_path / "out").write_text("1")
    code = (
        "import json; from pathlib import Path; from pipeline.run.process import write_provenance\n"
        "from pipeline.schema.compute import load_compute\n"
        f"compute = load_compute(Path({str(ROOT)!r})); os.chdir({str(tmp_path)!r}); tune_process(*%s)\n"
        "write_provenance('x', Path('out'), compute, device='cpu')"
    )
    for portable in (True, False):
        tune(code % repr((1, portable)))
        found = json.loads((tmp_path / "provenance" / "x.json").read_text())
        assert found["cpu"] == describe_cpu()
        assert found["portable"] == (portable and platform.machine() == "x86_64" and not lacks_avx2())
