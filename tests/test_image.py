"""The image, built and run by a real Docker engine; skipped where there is none, unless PIPELINE_ENGINE=required."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException
from docker.models.containers import Container
from workspace import ROOT, Workspace, commit_all, copy_project, copy_workspace, list_outputs, make_reduced

from pipeline.__main__ import COMMANDS
from pipeline.schema.project import load_project

REQUIRED = os.environ.get("PIPELINE_ENGINE") == "required"
OWNER = (12345, 54321) if os.getuid() == 0 else (os.getuid(), os.getgid())
"""The calling user; without an entry in the image's /etc/passwd, whoever it is."""
HARDENED: dict[str, Any] = {
    "network_mode": "none",
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "2g",
}
NO_GPU = "no GPU in this container: running on the CPU"

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800)]  # the first build downloads gigabytes


def skip(reason: str) -> None:
    assert not REQUIRED, reason
    pytest.skip(reason)


@dataclass(frozen=True)
class Outcome:
    """Of a container that has ended."""

    status: int
    output: str

    @property
    def executed(self) -> list[str]:
        """The stages whose command ran."""
        return re.findall(r"^Running stage '(.*)'", self.output, re.MULTILINE)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env()
        client.ping()
    except DockerException:
        skip("no Docker engine")
    base = (
        os.environ.get("BASE_IMAGE")
        or re.findall("^ARG BASE_IMAGE=(.*)", (ROOT / "docker/Dockerfile").read_text(), re.M)[0]
    )
    try:
        client.images.list(base) or client.images.pull(base)
    except DockerException as error:
        skip(f"no base image: {error}")
    yield client
    client.close()


@dataclass(frozen=True)
class Built:
    """An image and what it was made of."""

    name: str
    source: Workspace
    output: str
    attributes: dict[str, Any]


def build(engine: docker.DockerClient, source: Workspace, name: str) -> Iterator[Built]:
    output = source.run("make", "--no-print-directory", "image", f"IMAGE={name}").stdout
    yield Built(name, source, output, engine.images.get(name).attrs)
    engine.images.remove(name, force=True)


@pytest.fixture(scope="module")
def clean_image(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Built from a clean checkout."""
    source = copy_project(tmp_path_factory.mktemp("clean"))
    commit_all(source)
    yield from build(engine, source, "pipeline-test-clean")


@pytest.fixture(scope="module")
def built(engine: docker.DockerClient, clean_image: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Built after an edit of the source, which makes the panel one that takes a minute."""
    source = make_reduced(tmp_path_factory.mktemp("reduced"))
    (source.root / "private.key").write_text("secret")
    yield from build(engine, source, "pipeline-test")


def mount(path: Path, target: str = "/workspace", mode: str = "rw") -> dict[str, dict[str, str]]:
    return {str(path): {"bind": target, "mode": mode}}


class Runner:
    """`docker run IMAGE ARGUMENTS` with options."""

    def __init__(self, engine: docker.DockerClient, image: str) -> None:
        self.engine, self.image = engine, image
        self.started: list[Container] = []

    def start(self, *arguments: str, **options: Any) -> Container:
        container = self.engine.containers.run(self.image, list(arguments), detach=True, **options)
        self.started.append(container)
        return container

    def wait(self, container: Container) -> Outcome:
        status = container.wait()["StatusCode"]
        return Outcome(status, container.logs().decode())

    def __call__(self, *arguments: str, status: int = 0, **options: Any) -> Outcome:
        container = self.start(*arguments, **options)
        outcome = self.wait(container)
        container.remove()
        self.started.remove(container)
        assert outcome.status == status, outcome.output
        return outcome

    def on(self, workspace: Workspace, *arguments: str, status: int = 0, **options: Any) -> Outcome:
        """On a mounted checkout, as its owner."""
        options = {"volumes": mount(workspace.root), "user": f"{OWNER[0]}:{OWNER[1]}", **options}
        return self(*arguments, status=status, **options)


@pytest.fixture(scope="module")
def run(engine: docker.DockerClient, built: Built) -> Iterator[Runner]:
    runner = Runner(engine, built.name)
    yield runner
    for container in runner.started:
        container.remove(force=True)


def give(workspace: Workspace) -> None:
    """Let the calling user own the files."""
    if os.getuid() == 0:
        for path in (workspace.root, *workspace.root.rglob("*")):
            os.chown(path, *OWNER, follow_symlinks=False)


def hand_over(workspace: Workspace) -> Workspace:
    """Owned by the calling user, without a name in git's settings."""
    for key in ("user.name", "user.email"):
        workspace.run("git", "config", "--unset", key)
    give(workspace)
    return workspace


def clone(built: Built, target: Path) -> Workspace:
    """A checkout of what the image was built from."""
    workspace = copy_workspace(built.source, target)
    workspace.run("rm", "private.key")
    return hand_over(workspace)


def on_host(workspace: Workspace, *command: str) -> str:
    """A command of the host's; root, who runs it here, must not leave anything of its own."""
    output = workspace.run(
        *command, GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*"
    ).stdout
    give(workspace)
    return output


@pytest.fixture(scope="module")
def checkout(calm: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkout in which the host has done everything, and of which DVC's cache is left, and what git keeps."""
    workspace = copy_workspace(calm, tmp_path_factory.mktemp("checkout") / "project")
    workspace.run("git", "clean", "-fdxq", "--exclude=/.dvc")
    return hand_over(workspace)


# ---- The image -------------------------------------------------------------------------------------------------------


def test_a_source_edit_rebuilds_nothing_of_the_packages(
    clean_image: Built, built: Built, capsys: pytest.CaptureFixture[str]
):
    before, after = (image.attributes["RootFS"]["Layers"] for image in (clean_image, built))
    shared = [layer for layer, other in zip(before, after, strict=True) if layer == other]
    assert len(before) - len(shared) == 2  # the copy of the project and its repository
    assert built.attributes["Size"] > 1e9  # torch is in what is shared
    with capsys.disabled():
        print(f"\nclean build: {clean_image.output.splitlines()[-1]}\nafter an edit: {built.output.splitlines()[-1]}")


def test_the_image_says_what_it_is(clean_image: Built):
    config = clean_image.attributes["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["revision"] == clean_image.source.run("git", "describe", "--always", "--abbrev=12").stdout.strip()
    assert labels["version"] == "0.2.0"
    assert config["User"] == "1000:1000"
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(config["Env"])


def test_the_image_has_what_git_tracks_and_nothing_else(run: Runner, built: Built):
    found = run("bash", "-c", "find . -path ./.git -prune -o -type f -print; git describe --dirty; git status --short")
    *files, revision = found.output.splitlines()
    tracked = built.source.run("git", "ls-files").stdout.split()
    expected = {f"./{name}" for name in tracked if not name.startswith((".ci/", ".dockerignore"))}
    assert set(files) == expected
    assert revision == built.attributes["Config"]["Labels"]["org.opencontainers.image.revision"]


def test_every_command_of_the_pipeline_is_passed_on(run: Runner):
    for command in (function.__name__.rstrip("_") for function in COMMANDS):
        assert f"usage: python -m pipeline {command}" in run(command, "--help").output


def test_torch_compile_finds_its_compiler(run: Runner):
    code = "import torch; print(torch.compile(lambda x: x.sin() + 1)(torch.zeros(3)).tolist())"
    options = {**HARDENED, "tmpfs": {"/tmp": "exec"}, "user": "12345"}  # noqa: S108
    assert "[1.0, 1.0, 1.0]" in run("python", "-c", code, **options).output


# ---- The panel -------------------------------------------------------------------------------------------------------


def fetch_file(container: Container, path: str) -> bytes:
    """A file of a container, which may have ended."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile(Path(path).name)
        assert file is not None
        return file.read()


def test_the_bare_image_gives_the_tables_and_the_same_bytes(run: Runner, calm: Workspace, tmp_path: Path):
    """Every model, record, table and picture is that of the host: another user, another folder, another time zone."""
    container = run.start(network_mode="none", environment={"TZ": "Asia/Kathmandu"})
    outcome = run.wait(container)
    assert outcome.status == 0, outcome.output
    assert outcome.output.count(NO_GPU) == 1
    assert "results stay in this container" in outcome.output
    assert re.search(r"^[1-9]\d* made; ", outcome.output, re.MULTILINE)
    assert re.search(r"^Claims: .*\b\d+", outcome.output, re.MULTILINE)
    assert re.search(r"^Baseline \(GN\) +1 +\d+\.\d+", outcome.output, re.MULTILINE)
    (tmp_path / "dvc.lock").write_bytes(fetch_file(container, "/workspace/dvc.lock"))
    assert list_outputs(Workspace(tmp_path)) == list_outputs(calm)


def test_a_mounted_checkout_gets_what_the_host_made_and_its_owner_owns_it(checkout: Workspace, run: Runner):
    outcome = run.on(checkout, **HARDENED)
    assert re.search(r"^(\d+) made, [1-9]\d* restored", outcome.output, re.MULTILINE)
    assert not list((checkout.root / "logs").glob("train*"))
    assert "results stay" not in outcome.output
    assert "Table 1" in outcome.output
    assert (checkout.root / "runs/ddpm/digits/baseline/0/last.safetensors").is_file()
    assert (checkout.root / ".dvc/tmp/site-cache").is_dir()  # DVC's database of hashes outlives the container
    for path in checkout.root.rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == OWNER, path


def test_every_kind_of_stage_runs_locked_up_and_gives_the_bytes_of_the_host(checkout: Workspace, run: Runner):
    item = "digits@digits-position=mlp-0"
    stages = [f"{kind}_{item}" for kind in ("train_ddpm", "sample", "evaluate_ddpm")]
    stages += [f"{kind}_node_{item}".replace("position=mlp", "baseline") for kind in ("train", "evaluate")]
    stages += ["record_node@digits", "record_ddpm@digits", "draw@figure7", "report"]
    before = checkout.read("dvc.lock")["stages"]
    assert set(run.on(checkout, "repro", "--force", "--single-item", *stages, **HARDENED).executed) == set(stages)
    after = checkout.read("dvc.lock")["stages"]
    assert {name: after[name] for name in after if after[name] != before.get(name)} == {}
    assert after.keys() == before.keys()


def test_the_host_finds_what_the_container_made(checkout: Workspace, run: Runner):
    assert "up to date" in on_host(checkout, "dvc", "status")
    params = checkout.read("params.yaml")
    params["node"]["digits"]["arms"].append("groups=2")
    checkout.write("params.yaml", params)
    stage, folder = "train_node_digits@digits-groups=2-0", checkout.root / "runs/node/digits/groups=2"
    assert stage in run.on(checkout, "repro", stage).executed
    shutil.rmtree(folder)
    on_host(checkout, "git", "checkout", "-q", "dvc.lock")
    assert f"Running stage '{stage}'" not in on_host(checkout, "dvc", "repro", stage)
    assert (folder / "0").is_dir()
    shutil.rmtree(folder)
    on_host(checkout, "git", "checkout", "-q", ".")


def test_other_commands(checkout: Workspace, run: Runner):
    count = len(load_project(checkout.root).runs())
    assert f"{count} runs up to date" in run.on(checkout, "plan", **HARDENED).output
    assert f"params.yaml and specs/ are valid: {count} runs" in run.on(checkout, "check").output
    assert run.on(checkout, "repro", "render@table1").executed == []
    assert "num_params" in run.on(checkout, "show", "node", "cifar10", "norm=batch").output
    assert "What the image runs" in run("--help").output
    assert f"uid={OWNER[0]}" in run.on(checkout, "bash", "-c", "id").output
    assert "3.67" in run.on(checkout, "dvc", "--version").output
    outcome = run.on(checkout, "exp", "run", "--name", "two", "-S", "node.digits.seeds=[0,1]", "train_node_digits")
    trained = {f"train_node_digits@digits-{arm}-1" for arm in ("baseline", "norm=batch")}
    assert set(outcome.executed) == {"check", *trained}
    assert "two" in run.on(checkout, "exp", "list").output


# ---- Interruptions ---------------------------------------------------------------------------------------------------

LONG = "train_ddpm_digits@digits-baseline-0"
LONG_STEPS = 400


@pytest.fixture
def long_training(built: Built, tmp_path: Path) -> Workspace:
    """A checkout whose diffusion model takes more than ten seconds."""
    workspace = clone(built, tmp_path / "project")
    ddpm = workspace.read("specs/ddpm/study.yaml")
    ddpm["cases"]["digits"]["training"] |= {"steps": LONG_STEPS, "snapshot_every": LONG_STEPS}
    ddpm["cases"]["digits"]["sampling"]["first_snapshot"] = LONG_STEPS
    workspace.write("specs/ddpm/study.yaml", ddpm)
    give(workspace)
    return workspace


def wait_for_training(container: Container, workspace: Workspace) -> None:
    """Until it has taken some steps: seconds after its progress shows, or, at a terminal without width, longer."""
    begun = None
    for _ in range(900):
        logs = container.logs() + b"".join(path.read_bytes() for path in workspace.root.glob(f"logs/{LONG}*"))
        if f" 0/{LONG_STEPS} ".encode() in logs:
            time.sleep(3)
            return
        if begun is None and f"Running stage '{LONG}'".encode() in logs:
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun > 16:  # five to start, on a quiet machine
            return
        time.sleep(0.1)
    raise AssertionError(container.logs().decode())


def assert_it_goes_on(run: Runner, workspace: Workspace) -> None:
    outcome = run.on(workspace, "repro", LONG)
    assert outcome.executed == [LONG]
    assert int(re.findall(rf"(\d+)/{LONG_STEPS}", outcome.output)[0]) > 0
    assert (workspace.root / "runs/ddpm/digits/baseline/0/last.safetensors").is_file()


@pytest.mark.parametrize("verb", ["run", "repro"])
def test_docker_stop_loses_nothing_and_two_containers_do_not_mix(run: Runner, long_training: Workspace, verb: str):
    options = {"volumes": mount(long_training.root), "user": f"{OWNER[0]}:{OWNER[1]}"}
    container = run.start(verb, LONG, **options)
    wait_for_training(container, long_training)
    second = run.on(long_training, verb, LONG, status=1)
    assert "error: another container computes in /workspace" in second.output
    begun = time.monotonic()
    container.stop(timeout=60)
    assert time.monotonic() - begun < 30
    outcome = run.wait(container)
    assert outcome.status == 143, outcome.output
    assert outcome.output.splitlines()[-1].startswith("stopped: what is finished is kept")
    if verb == "repro":
        assert outcome.executed == ["check", "fetch_ddpm@ddpm-digits", LONG]
    assert_it_goes_on(run, long_training)


def test_ctrl_c_at_a_terminal_loses_nothing(run: Runner, long_training: Workspace):
    options = {"volumes": mount(long_training.root), "user": f"{OWNER[0]}:{OWNER[1]}", "tty": True, "stdin_open": True}
    container = run.start("repro", LONG, **options)
    terminal = container.attach_socket(params={"stdin": 1, "stream": 1})
    wait_for_training(container, long_training)
    terminal._sock.sendall(b"\x03")
    outcome = run.wait(container)
    assert outcome.status == 130, outcome.output
    assert "stopped: what is finished is kept" in outcome.output
    assert_it_goes_on(run, long_training)


def test_a_killed_container_does_not_block_the_next(run: Runner, built: Built, tmp_path: Path):
    workspace = clone(built, tmp_path / "project")
    busy = {"write": {"/workspace/closures": {"pid": 1, "cmd": "/opt/venv/bin/dvc repro other"}}, "read": {}}
    path = workspace.root / ".dvc/tmp/rwlock"
    path.parent.mkdir()
    path.write_text(json.dumps(busy))
    give(workspace)
    without_us = run.on(workspace, "bash", "-c", "dvc repro check", status=255)
    assert "it is being blocked by" in without_us.output
    assert run.on(workspace, "repro", "check").executed == ["check"]
    shutil.rmtree(workspace.root / "closures")
    path.write_text('{"write": {"/workspa')
    assert run.on(workspace, "repro", "check").status == 0


# ---- Mistakes, each a line that says what to do ----------------------------------------------------------------------


def refused(run: Runner, *arguments: str, **options: Any) -> str:
    *before, last = run(*arguments, status=1, **options).output.splitlines()
    assert not [line for line in before if not line.startswith(NO_GPU)], before
    assert last.startswith("error: ")
    return last


def test_a_mistyped_command(run: Runner):
    assert "rpro: no such command; allowed are check, " in refused(run, "rpro")


def test_a_folder_that_is_no_checkout(run: Runner, tmp_path: Path):
    tmp_path.chmod(0o755)
    assert "/workspace/dvc.yaml: no such file" in refused(run, volumes=mount(tmp_path))
    tmp_path.chmod(0o700)
    expected = f"/workspace belongs to user {os.getuid()}, and user 7 may not read it: run with --user"
    assert expected in refused(run, user="7:7", volumes=mount(tmp_path))


def test_nowhere_to_write(run: Runner):
    assert "/tmp: Read-only file system" in refused(run, "check", read_only=True)  # noqa: S108
    assert "/workspace is read-only" in refused(run, **HARDENED)


def test_a_container_of_another_user_than_the_checkout(run: Runner, built: Built, tmp_path: Path):
    workspace = clone(built, tmp_path / "project")
    workspace.root.chmod(0o755)
    owner = f"run with --user {OWNER[0]}:{OWNER[1]}"
    expected = f"/workspace belongs to user {OWNER[0]}, and user 7 may not write there: {owner}"
    assert expected in refused(run, user="7:7", volumes=mount(workspace.root))
    assert run("check", "--quiet", user="7:7", volumes=mount(workspace.root)).output == ""  # reading is free
    expected = f"/workspace belongs to user {OWNER[0]} and would get files of root: {owner}"
    assert expected in refused(run, user="0:0", volumes=mount(workspace.root))


def test_files_that_a_container_of_root_left(run: Runner, built: Built, tmp_path: Path):
    workspace = clone(built, tmp_path / "project")
    run(
        "bash",
        "-c",
        "mkdir -p .dvc/tmp && install -m 600 /dev/null .dvc/tmp/lock",
        user="0",
        volumes=mount(workspace.root),
    )
    found = refused(run, "repro", volumes=mount(workspace.root), user=f"{OWNER[0]}:{OWNER[1]}")
    assert "/workspace/.dvc/tmp belongs to user 0" in found
    assert "sudo chown -R" in found
    run("rm", "-r", ".dvc/tmp", user="0", volumes=mount(workspace.root))


def test_a_worktree_needs_its_repository(run: Runner, built: Built, tmp_path: Path):
    main = clone(built, tmp_path / "main")
    on_host(main, "git", "worktree", "add", "-q", str(tmp_path / "tree"))
    tree = Workspace(tmp_path / "tree")
    give(tree)
    repository = main.root / ".git"
    assert f'add -v "{repository}:{repository}"' in refused(run, "repro", volumes=mount(tree.root), user=f"{OWNER[0]}")
    both = {**mount(tree.root), **mount(repository, str(repository))}
    assert run.on(tree, "repro", "check", volumes=both).executed == ["check"]


# ---- Volumes, memory, GPUs -------------------------------------------------------------------------------------------


def test_a_cache_elsewhere(run: Runner, built: Built, tmp_path: Path):
    workspace, cache = clone(built, tmp_path / "project"), Workspace(tmp_path / "cache")
    cache.root.mkdir()
    give(cache)
    volumes = {**mount(workspace.root), **mount(cache.root, "/cache")}
    run.on(workspace, "repro", "fetch_node@node-digits", volumes=volumes)
    assert (cache.root / "files/md5").is_dir()
    assert not (workspace.root / ".dvc/cache/files").exists()
    # As docker/compose.yaml mounts it where nothing is said: the checkout again.
    twice = [f"{workspace.root}:/workspace", f"{workspace.root}:/cache"]
    run.on(workspace, "repro", "fetch_ddpm@ddpm-digits", volumes=twice)
    assert (workspace.root / ".dvc/cache/files").is_dir()


def test_a_gpu_that_torch_cannot_use_is_not_passed_over(run: Runner):
    found = refused(run, "repro", volumes=mount(Path("/dev/null"), "/dev/nvidiactl"))
    assert "torch cannot use this container's GPU (RuntimeError: " in found


def test_several_gpus_need_shared_memory(run: Runner, tmp_path: Path):
    """torch is one that sees two GPUs: the machine of the test has none."""
    (tmp_path / "torch.py").write_text(
        "class cuda: init = lambda: None; device_count = lambda: 2; get_device_name = lambda: 'two'\n"
    )
    tmp_path.chmod(0o755)
    volumes = {**mount(Path("/dev/null"), "/dev/nvidiactl"), **mount(tmp_path, "/fake")}
    options = {"volumes": volumes, "environment": {"PYTHONPATH": "/fake"}}
    warning = "warning: several GPUs, and less than 1 GB in /dev/shm: add --shm-size=8g"
    assert warning in run("repro", "check", **options).output
    spacious = run("repro", "check", shm_size="2g", **options).output
    assert warning not in spacious
    assert "2 x two" in spacious


@pytest.mark.gpu
def test_a_gpu_is_used(engine: docker.DockerClient, run: Runner, built: Built, tmp_path: Path):
    if "nvidia" not in engine.info().get("Runtimes", {}):
        pytest.skip("no GPU: the engine has no NVIDIA runtime")
    workspace = clone(built, tmp_path / "project")
    params = workspace.read("params.yaml")
    params["compute"]["device"] = "cuda"
    workspace.write("params.yaml", params)
    give(workspace)
    gpus = [docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])]
    outcome = run.on(workspace, "repro", "train_node_digits", LONG, device_requests=gpus, shm_size="2g")
    assert NO_GPU not in outcome.output
    assert LONG in outcome.executed


# ---- docker/compose.yaml ---------------------------------------------------------------------------------------------


def find_compose() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            subprocess.run([*command, "version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    skip("no docker compose")
    return []


def test_compose(run: Runner, built: Built, tmp_path: Path):
    compose = [*find_compose(), "-f", "docker/compose.yaml"]
    workspace = clone(built, tmp_path / "project")
    settings = {"PIPELINE_IMAGE": built.name, "PIPELINE_USER": f"{OWNER[0]}:{OWNER[1]}", "PIPELINE_PORT": "18000"}
    try:
        said = workspace.run(*compose, "run", "--rm", "repro-cpu", "repro", "fetch_node@node-digits", **settings).stdout
        assert "Running stage 'fetch_node@node-digits'" in said
        assert (workspace.root / "data/node/digits").stat().st_uid == OWNER[0]
        said = workspace.run(*compose, "run", "--rm", "tests", "pytest", "-q", "tests/test_ode.py", **settings).stdout
        assert re.search(r"\d+ passed", said)
        workspace.run("mkdir", "-p", "reports")
        (workspace.root / "reports" / "README.md").write_text("the report")
        workspace.run(*compose, "up", "-d", "report", **settings)
        for _ in range(100):
            try:
                with urllib.request.urlopen("http://127.0.0.1:18000/README.md", timeout=5) as answer:
                    assert answer.read() == b"the report"
                    break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError("the report is not served")
    finally:
        workspace.run(*compose, "down", **settings, ok=False)
