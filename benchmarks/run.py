"""`python -m pipeline run` against `dvc repro` on a panel of 24 trainings, each made from nothing.

    python -m benchmarks.run --slots 2

The panel is fixed here: twelve arms of the NODE study with two seeds on the digits, trained for two epochs, with their
evaluations and their records. Both commands run in a copy of this project, one after the other, and what they record is
compared.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
ARMS = [
    "baseline", "norm=batch", "norm=layer", "norm=instance", "time=none", "time=mlp", "time=linear",
    "position=linear", "position=mlp", "groups=1", "groups=2", "groups=8",
]  # fmt: skip
_TARGET = "record_node@digits"
_GENERATED = ("dvc.lock", "records", "metrics", "curves", "ledger", "reports")


def make_project(root: Path) -> None:
    """A copy of this project, with the panel, as a repository without results."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if Path(name).parts[0] not in _GENERATED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    params["compute"] |= {"device": "cpu", "threads": 1}
    params["node"]["digits"] |= {"seeds": [0, 1], "arms": ARMS, "more": {"seeds": [], "arms": []}}
    yaml.dump(params, root / "params.yaml")
    spec = yaml.load(root / "specs/node/study.yaml")
    spec["cases"]["digits"]["training"] |= {"epochs": 2}
    yaml.dump(spec, root / "specs/node/study.yaml")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def measure(root: Path, *command: str) -> tuple[float, object]:
    """Seconds of a command that makes the panel, and what DVC has recorded then."""
    start = time.perf_counter()
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}-site")}
    subprocess.run(
        [sys.executable, "-m", *command, _TARGET], cwd=root, check=True, capture_output=True, env=environment
    )
    seconds = time.perf_counter() - start
    stages = YAML().load(root / "dvc.lock")["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}
    return seconds, {path: md5 for path, md5 in outs.items() if not path.startswith("ledger")}  # which holds seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=2)
    slots = parser.parse_args().slots
    commands = {"dvc repro": ("dvc", "repro"), f"run --slots {slots}": ("pipeline", "run", "--slots", str(slots))}
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for index, (name, command) in enumerate(commands.items()):
            make_project(Path(folder) / str(index))
            found[name] = measure(Path(folder) / str(index), *command)
            print(f"{name:14} {found[name][0]:7.1f} s", flush=True)
    (repro, made), (run, made_too) = found.values()
    if made != made_too:
        sys.exit("error: they did not record the same")
    print(f"{2 * len(ARMS)} trainings: run / dvc repro = {run / repro:.2f}; the same outputs")


if __name__ == "__main__":
    main()
