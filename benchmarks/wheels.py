"""Packages for a machine that has torch and NumPy but no network: wheels of requirements.lock, verified by its hashes.

    python -m benchmarks.wheels [--python 3.12] [--folder wheels] [--without scipy pillow]

`provide` puts on sys.path those of them that are missing. Imports only Python's own modules, before anything else is.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "wheels"
PACKAGES = {
    # ours
    "annotated-types": "annotated_types",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "ruamel-yaml": "ruamel",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "typing-extensions": "typing_extensions",
    "typing-inspection": "typing_inspection",
    # the peer of NODE
    "scipy": "scipy",
    "torchdiffeq": "torchdiffeq",
    # the peer of DDPM
    "anyio": "anyio",
    "certifi": "certifi",
    "charset-normalizer": "charset_normalizer",
    "diffusers": "diffusers",
    "filelock": "filelock",
    "fsspec": "fsspec",
    "h11": "h11",
    "httpcore2": "httpcore2",
    "httpx2": "httpx2",
    "huggingface-hub": "huggingface_hub",
    "idna": "idna",
    "packaging": "packaging",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "requests": "requests",
    "truststore": "truststore",
    "urllib3": "urllib3",
}
"""By name in requirements.lock: the module. What torch needs itself is not here."""
_GLIBC = 28  # torch's own wheels ask for 2.28
_MOST = 50 * 2**20  # bytes of a wheel


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def select(lock: str, python: str, without: Collection[str] = ()) -> str:
    """The lines of requirements.lock, with their hashes, that give PACKAGES to a version of Python on Linux, x86-64.

    Args:
        python: such as `3.12`.
        without: packages that the machine has.

    Raises:
        ValueError: the lock lacks one of them.
    """
    from packaging.requirements import Requirement

    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    names, found = PACKAGES.keys() - set(without), {}
    for block in re.findall(r"^\S.*(?:\\\n\s+--hash=\S+\s*)+", lock, re.MULTILINE):
        head, *hashes = [part.strip() for part in block.split("\\\n")]
        wanted = Requirement(head)
        if _normalise(wanted.name) in names and (wanted.marker is None or wanted.marker.evaluate(environment)):
            found[_normalise(wanted.name)] = " \\\n    ".join([f"{wanted.name}{wanted.specifier}", *hashes])
    if missing := sorted(names - found.keys()):
        raise ValueError(f"requirements.lock: no {missing[0]} for Python {python}")
    return "\n".join(found[name] for name in sorted(found)) + "\n"


def collect(python: str, folder: Path, without: Collection[str] = ()) -> None:
    """Download the wheels into a folder, which they replace.

    Args:
        python: such as `3.12`.
        without: packages that the machine has.

    Raises:
        ValueError: a package has no wheel for that Python, or it is larger than 50 MiB.
    """
    from pipeline.schema.files import replace_folder

    if not re.fullmatch(r"3\.\d+", python):
        raise ValueError(f"--python {python}: such as 3.12")
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(5, _GLIBC + 1)]
    platforms += [f"--platform=manylinux{name}_x86_64" for name in ("2014", "2010", "1")]  # older names of some
    with replace_folder(folder) as whole:
        wanted = whole / "requirements.txt"
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        wanted.write_text(select(lock, python, without), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--implementation=cp", f"--python-version={python}"]
        if subprocess.run([*command, *platforms, f"--dest={whole}", f"--requirement={wanted}"], check=False).returncode:
            raise ValueError(f"pip found no wheels for Python {python}; what it said stands above")
        for wheel in whole.glob("*.whl"):
            if wheel.stat().st_size > _MOST:
                raise ValueError(f"{wheel.name}: {wheel.stat().st_size / 2**20:.0f} MiB, more than 50")


def _fits(wheel: Path) -> bool:
    """Whether a wheel is for this version of Python."""
    *_, tag, abi, _platform = wheel.stem.split("-")
    return abi in ("none", "abi3") or f"cp{sys.version_info.major}{sys.version_info.minor}" in tag.split(".")


def provide(folder: Path = FOLDER) -> tuple[list[str], "tempfile.TemporaryDirectory[str] | None"]:
    """Unpack the wheels of what cannot be imported here, and put them before all else on sys.path.

    Returns:
        What was unpacked, and the folder, which lasts as long as the object does; None: nothing was missing, or there
        are no wheels.
    """
    missing = {name for name, module in PACKAGES.items() if importlib.util.find_spec(module) is None}
    if "pydantic" in missing:
        missing.add("typing-extensions")  # torch brings one, which may be too old
    wheels = {_normalise(path.name.split("-")[0]): path for path in sorted(folder.glob("*.whl")) if _fits(path)}
    found = sorted(missing & wheels.keys())
    if not found:
        return [], None
    place: Any = tempfile.TemporaryDirectory(prefix="wheels-")
    for name in found:
        with zipfile.ZipFile(wheels[name]) as wheel:
            wheel.extractall(place.name)
    sys.path.insert(0, place.name)
    importlib.invalidate_caches()
    return found, place


def main() -> None:
    """Collect, and say what that came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", help="of that machine"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--without", nargs="+", default=[], choices=PACKAGES, metavar="NAME", help="the machine has it")
    args = parser.parse_args()
    try:
        collect(args.python, args.folder, args.without)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    wheels = list(args.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{args.folder}: {len(wheels)} wheels for Python {args.python}, {size:.1f} MiB")


if __name__ == "__main__":
    main()
