"""Build the sdist and the wheel in dist, and test the wheel in an environment with nothing but the wheel: `just wheel`.

The wheel is built from the sdist, which is thus complete. On Linux, auditwheel names the wheel after the oldest glibc that it
runs on, for example manylinux_2_34.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
CPP_TESTS = ("jlstm/backends/cpu/tests/", "jlstm/backends/gpu/tests/")
IN_SDIST = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO")
IN_WHEEL = ("jlstm/backends/cpu/libkernel-*", "jlstm/backends/gpu/libkernel-gpu.so", "jlstm-*.dist-info/*")


def main() -> None:
    """Build, check and test. The first failure ends the program."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        tools = make_environment(Path(folder, "tools"), "--requirement", ROOT / "requirements" / "wheel.txt")
        run("python", "-m", "build", "--outdir", folder, ROOT, bin_folder=tools)
        (sdist,), (built_wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        if sys.platform == "linux":
            run("auditwheel", "repair", "--wheel-dir", DIST, built_wheel, bin_folder=tools)
        else:
            shutil.copy(built_wheel, DIST)
        shutil.copy(sdist, DIST)
        (wheel,) = DIST.glob("*.whl")
        check_contents(sdist, wheel)
        run("twine", "check", "--strict", sdist, wheel, bin_folder=tools)
        only_wheel = make_environment(Path(folder, "only_wheel"), wheel)
        test, version = ROOT / "tests" / "support" / "core_only.py", wheel.name.split("-")[1]
        run("python", "-I", test, "--wheel", version, bin_folder=only_wheel, alone=True)  # -I: the checkout is not on the path
    print(f"{sdist.name} and {wheel.name} are in dist. The wheel passes its test with only the packages of the core.")


def make_environment(folder: Path, *requirements: str | Path) -> Path:
    """Make a virtual environment with some packages, and return its folder of programs."""
    venv.create(folder, with_pip=True)
    pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:")
    run(*pip, *requirements, bin_folder=folder / "bin", alone=True)  # no compiler is found
    return folder / "bin"


def run(program: str, *arguments: str | Path, bin_folder: Path, alone: bool = False) -> None:
    """Run a program of a virtual environment. It finds the programs of the environment and, unless `alone`, of this machine."""
    path = str(bin_folder) if alone else f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    if subprocess.run([bin_folder / program, *arguments], env=os.environ | {"PATH": path}).returncode:
        sys.exit(f"{program} {' '.join(map(str, arguments))} failed: see its message above")


def check_contents(sdist: Path, wheel: Path) -> None:
    """Check that both have the files of the two packages that git tracks, without tests, and nothing but what the build adds."""
    listing = subprocess.check_output(["git", "ls-files", "jlstm", "parity"], cwd=ROOT, text=True).splitlines()
    sources = {name for name in listing if not name.startswith(CPP_TESTS)}
    with tarfile.open(sdist) as archive:
        sdist_files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        wheel_files = {name for name in archive.namelist() if not name.endswith("/")}
    for path, files, added in ((sdist, sdist_files, IN_SDIST), (wheel, wheel_files, IN_WHEEL)):
        expected = sources | {name for name in files if any(fnmatch(name, pattern) for pattern in added)}
        if files != expected:
            sys.exit(f"{path.name} must have the files that git tracks, but it differs by {sorted(files ^ expected)}")


if __name__ == "__main__":
    main()
