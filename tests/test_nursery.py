"""The process that forks stages."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workspace import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each stage is a process of its own"),
]
CODE = {
    "pipeline/__init__.py": "",
    "pipeline/compute/__init__.py": "",
    "pipeline/compute/threads.py": "def tune_process(threads, portable): pass",
    "pipeline/run/__init__.py": "",
    "pipeline/run/process.py": (
        "import time\nSTARTED = 0.0\ndef restart_clock():\n    globals()['STARTED'] = time.monotonic()\n"
    ),
    "pipeline/schema/__init__.py": "",
    "pipeline/schema/project.py": "def load_project(root): pass",
    "pipeline/value.py": "VALUE = 1",
    "stages/__init__.py": "",
    "stages/say.py": (
        "import time\nfrom pipeline.run import process\nfrom pipeline.value import VALUE\n"
        "print(VALUE, __name__, time.monotonic() - process.STARTED < 5)\n"
    ),
    "stages/wait.py": "import time\nif __name__ == '__main__':\n    time.sleep(60)\n",
}


class Nursery:
    """One of a project of a few lines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in CODE.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        text = (ROOT / "pipeline" / "run" / "nursery.py").read_text()
        quick = re.sub(r"^PACKAGES = \(.*?^\)$", "PACKAGES = ()", text, flags=re.MULTILINE | re.DOTALL)
        assert quick != text
        (root / "pipeline" / "run" / "nursery.py").write_text(quick)
        command = [sys.executable, "-m", "pipeline.run.nursery", "1", "0"]
        self.process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, **message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def start(self, name: str, module: str) -> None:
        log = str(self.root / f"{name}.txt")
        self.tell(name=name, module=f"stages.{module}", arguments=[], log=log, environment={})

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def run(self, name: str) -> str:
        self.start(name, "say")
        assert self.read() == {"name": name, "status": 0}, (self.root / f"{name}.txt").read_text()
        return (self.root / f"{name}.txt").read_text()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    found = Nursery(tmp_path)
    yield found
    found.process.kill()


def test_a_stage_runs_what_is_on_disk_and_those_that_run_are_kept(nursery: Nursery):
    assert nursery.run("one") == "1 __main__ True\n"
    nursery.start("long", "wait")
    (nursery.root / "pipeline" / "value.py").write_text("VALUE = 1 + 1")
    assert nursery.run("two") == "2 __main__ True\n"
    (nursery.root / "pipeline" / "new.py").write_text("VALUE = 3")
    (nursery.root / "stages" / "say.py").write_text("from pipeline.new import VALUE\nprint(VALUE)\n")
    assert nursery.run("three") == "3\n"
    nursery.tell(name="long", signal=signal.SIGTERM)
    assert nursery.read() == {"name": "long", "status": -signal.SIGTERM}


def test_code_that_cannot_be_imported_fails_its_stage_alone(nursery: Nursery):
    nursery.run("one")
    (nursery.root / "stages" / "broken.py").write_text("import nothing_of_this_name\n")
    assert nursery.run("two") == "1 __main__ True\n"
    nursery.start("three", "broken")
    assert nursery.read() == {"name": "three", "status": 1}
    assert "nothing_of_this_name" in (nursery.root / "three.txt").read_text()


def test_at_the_end_of_its_input_its_stages_end(nursery: Nursery):
    nursery.start("long", "wait")
    while not (nursery.root / "long.txt").exists():
        time.sleep(0.01)
    assert nursery.process.stdin is not None
    nursery.process.stdin.close()
    assert nursery.read() == {"name": "long", "status": -signal.SIGTERM}
    assert nursery.process.wait(30) == 0


def test_the_projects_code_starts_no_thread():
    """A fork takes one thread along: others, and the locks that they hold, would be lost."""
    code = (
        "import sys; from importlib import import_module; import pipeline.run.nursery as nursery\n"
        "for name in nursery.PACKAGES: import_module(name)\n"
        "nursery._import_code()\n"
        "assert 'pipeline.studies.full.learned' in sys.modules, 'something could not be imported'\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith('Threads')))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["Threads:", "1"]
