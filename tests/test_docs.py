"""README.md and docs/: short enough, no link leads nowhere, commands exist, settings are valid, Python runs."""

import re
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from ruamel.yaml import YAML
from workspace import ROOT, Workspace, copy_workspace

from pipeline.__main__ import EXAMPLES, GROUPS
from pipeline.command_line import parse
from pipeline.run.process import hash_output
from pipeline.schema.project import Project

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
RUNNABLE = {"README.md", "docs/audit.md", "docs/own-network.md", "docs/python.md"}  # audit.md: test_audit_tutorial.py
PLACEHOLDERS = {"STUDY": "node", "TARGET": "unet2d", "FILE:FACTORY": "example:make_field"}
"""What a page may leave open, and an example."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def list_blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, also indented ones."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def drop_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def list_anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", drop_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def list_links(text: str) -> list[str]:
    """Targets of links and pictures that lead into the project."""
    found = re.findall(r"\]\((?:<([^>]+)>|([^)\s]+))\)", drop_blocks(text))
    targets = [inner or plain for inner, plain in found] + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def list_commands(text: str) -> Iterator[str]:
    """Lines of shell blocks, without comments, and what stands in code spans; continued lines are joined."""
    for block in list_blocks(text, "sh"):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()
    yield from re.findall(r"`([^`\n]+)`", drop_blocks(text))


def test_the_front_page_is_short():
    assert len(read("README.md").split()) < 1200


def test_the_index_leads_to_every_page():
    linked = {target.partition("#")[0] for target in list_links(read("docs/index.md"))}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str):
    for target in list_links(read(name)):
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        assert not anchor or anchor in list_anchors(found.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_the_pipeline_exist(name: str, capsys: pytest.CaptureFixture[str]):
    for line in list_commands(read(name)):
        if not line.startswith("python -m pipeline "):
            continue
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)[3:]]
        if words == ["--help"]:
            continue
        try:
            parse(words, GROUPS, EXAMPLES)
        except SystemExit as error:
            raise AssertionError(f"{line}: {error} {capsys.readouterr().err}") from None


@pytest.mark.parametrize("name", NAMES)
def test_targets_of_make_exist(name: str):
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    for line in list_commands(read(name)):
        words = [word for word in shlex.split(line, comments=True) if "=" not in word] if "make" in line else []
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, line


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str):
    """Paths in code spans; those with capitals, stars or dots alone are patterns."""
    for path in re.findall(r"`((?:benchmarks|docker|docs|networks|pipeline|specs|stages|tests)/[\w/.-]+)`", read(name)):
        if not re.search(r"[A-Z]{4}", path):
            assert (ROOT / path).exists(), path


def test_arms_on_the_pages_are_valid(project: Project):
    """Blocks that begin like params.yaml hold arms that the studies take."""
    seen = 0
    for name in NAMES:
        if name == "docs/recipes.md":  # test_recipes.py applies its blocks
            continue
        for block in list_blocks(read(name), "yaml"):
            content = YAML(typ="safe").load(block)
            for study in set(content) & set(project.specs) if isinstance(content, dict) else ():
                for case, grid in content[study].items():
                    for arm in grid["arms"] + grid["more"]["arms"]:
                        project.resolve(study, case, arm, 0)
                        seen += 1
    assert seen > 30


def run_blocks(name: str, workspace: Workspace) -> str:
    """Run the Python blocks of a page, one after another, in a workspace; returns what they print."""
    code = "\n".join(list_blocks(read(name), "python"))
    return workspace.run(sys.executable, "-c", code, PYTHONPATH=str(workspace.root)).stdout


def test_only_these_pages_have_python():
    elsewhere = {"docs/audit.md", "docs/recipes.md"}  # tests/test_audit_tutorial.py, test_recipes.py
    assert {name for name in NAMES if list_blocks(read(name), "python")} == RUNNABLE | elsewhere


@pytest.mark.slow
def test_the_front_page_prints_what_it_says():
    (block,) = list_blocks(read("README.md"), "python")
    said = [line.removeprefix("# ").split()[:2] for line in block.splitlines() if re.match(r"# \d", line)]
    assert [line.split() for line in run_blocks("README.md", Workspace(ROOT)).splitlines()] == said
    assert len(said) == 4


def test_the_own_network_is_blind_where_the_page_says_so():
    (block,) = list_blocks(read("docs/own-network.md"), "python")
    scope: dict = {}
    exec(block, scope)  # noqa: S102 - a page of ours
    network, inputs = scope["audited"]()
    changes = {}
    for kind in ("blind", "aware"):
        f = scope[kind]()
        at_0, at_1 = (f(torch.tensor(t), inputs["x"]) for t in (0.0, 1.0))
        changes[kind] = ((at_1 - at_0).norm() / at_0.norm()).item()
    assert changes["blind"] < 1e-5 < 1e-2 < changes["aware"]
    assert network(**inputs).shape == inputs["x"].shape


@pytest.mark.ci
def test_python_runs_where_models_are_trained(calm: Workspace, tmp_path: Path):
    workspace = copy_workspace(calm, tmp_path / "copy")
    printed = run_blocks("docs/python.md", workspace)
    assert "accuracy 0." in printed
    assert "blind by equation 5: True" in printed
    assert (workspace.root / "samples.png").stat().st_size > 0


@pytest.fixture
def given(calm: Workspace, tmp_path: Path) -> Path:
    """A folder with the results of the reduced panel, as docs/results.md says."""
    copy_workspace(calm, tmp_path / "given").run("python", "-m", "pipeline", "give", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.mark.ci
def test_results_come_without_training(calm: Workspace, given: Path, tmp_path: Path):
    """docs/results.md over a web server: a fresh clone takes them, and has nothing to do."""
    taken = Workspace(tmp_path / "taken")
    calm.run("git", "clone", "-q", str(calm.root), str(taken.root))
    handler = partial(SimpleHTTPRequestHandler, directory=str(given))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        taken.run("python", "-m", "pipeline", "take", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (taken.root / "runs/node/digits/baseline/0/best.safetensors").is_file()
    assert "0 to run, 0 from the cache" in taken.run("python", "-m", "pipeline", "run", "--dry-run").stdout
    assert "up to date" in taken.run("dvc", "status").stdout


@pytest.mark.ci
def test_a_damaged_result_is_not_taken(calm: Workspace, given: Path, tmp_path: Path):
    taken = Workspace(tmp_path / "taken")
    calm.run("git", "clone", "-q", str(calm.root), str(taken.root))
    digest = hash_output(calm.root / "runs/node/digits/baseline/0/best.safetensors")
    path = given / "files/md5" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = taken.run("python", "-m", "pipeline", "take", str(given), ok=False)
    assert not (taken.root / "runs/node/digits/baseline/0/best.safetensors").is_file(), result.stderr
    assert result.returncode == 1
    assert "of 1 outputs a file is missing there or damaged, and they were left out: runs/node/digits/baseline/0;" in (
        result.stderr
    )
    assert (taken.root / "runs/ddpm/digits/baseline/0/last.safetensors").is_file()


@pytest.mark.ci
def test_a_sweep_is_undone_by_git(calm: Workspace, tmp_path: Path):
    """docs/disk.md: the last commit's settings and results come back, and its models from the cache."""
    workspace = copy_workspace(calm, tmp_path / "copy")
    params = workspace.read("params.yaml")
    params["node"]["digits"]["arms"] = ["baseline", "groups=2"]
    workspace.write("params.yaml", params)
    workspace.drive("record_node")
    assert workspace.run("git", "status", "--porcelain", "records").stdout
    (undo,) = (block for block in list_blocks(read("docs/disk.md"), "sh") if block.startswith("git restore"))
    for command in undo.splitlines():
        workspace.run(*shlex.split(command, comments=True))
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    assert "0 to run" in workspace.run("python", "-m", "pipeline", "run", "--dry-run").stdout
