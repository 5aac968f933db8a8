"""Make a virtual environment, and install the project in it with the pinned packages. It does nothing if nothing has changed.

python3 requirements/install.py            .venv, with this Python
python3 requirements/install.py --peers    .venv, with the frameworks that the speed is compared with
python3 requirements/install.py --docs     .venv, with what builds the documentation; also together with --peers
python3 requirements/install.py --newest   .venv-newest, with the newest Python of this machine, for the tests of the core

The kernel is compiled once: .venv-newest loads that of .venv.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEWEST = "--newest" in sys.argv[1:]
OPTIONAL = [extra for extra in ("peers", "docs") if f"--{extra}" in sys.argv[1:]]
ENVIRONMENT = ROOT / (".venv-newest" if NEWEST else ".venv")
BACKENDS = ROOT / "jlstm" / "backends"
EXTRAS = ",".join(["flax", "train", "dev"] if NEWEST else ["parity", "examples", "dev", *OPTIONAL])


def main() -> None:
    """Install, unless the same pins and sources have been installed before."""
    if sys.version_info < (3, 11):  # noqa: UP036  # pip refuses too, with a longer message
        sys.exit(f"jlstm needs Python 3.11 or newer and this is {sys.version.split()[0]}: run it with a newer python3")
    if NEWEST and not (ROOT / ".venv" / "bin" / "python").exists():
        sys.exit("there is no .venv, whose kernel .venv-newest loads: run this first without --newest")
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        make_environment()
    is_new = version(python, remedy=f"delete the folder {ENVIRONMENT.name} and run this again") >= (3, 12)
    pins = ROOT / "requirements" / ("newest.txt" if is_new else "oldest.txt")  # JAX 0.11 and later need Python 3.12
    kernels = [*BACKENDS.rglob("CMakeLists.txt"), *BACKENDS.glob("*/src/*")]
    files = [ROOT / "pyproject.toml", pins, *([] if NEWEST else sorted(kernels))]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    # An environment with an optional extra has everything that one without it has.
    stamps = [ENVIRONMENT / f"{name}.sha256" for name in (*OPTIONAL, "installed")]
    if all(stamp.exists() and stamp.read_text() == wanted for stamp in stamps):
        return
    amount = "more " if OPTIONAL else ""
    print(f"Installing {amount}into {ENVIRONMENT.name}, which takes a few minutes the first time …", flush=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pip += ["--config-settings", "wheel.cmake=false"] if NEWEST else []  # the kernel is not compiled again
    failed = subprocess.run([*pip, "--constraint", pins, "--editable", f"{ROOT}[{EXTRAS}]"]).returncode
    if failed:
        sys.exit("pip could not install the packages: see its message above, and check that a package index can be reached")
    if NEWEST:
        share_kernel(python)
    for stamp in stamps:
        stamp.write_text(wanted)
    if NEWEST:
        return  # the kernel of .venv may not be built yet
    report = "kernel = library.load(); print(kernel.reason or f'The kernel is built, for {kernel.instructions} on this machine')"
    subprocess.run([python, "-c", f"from jlstm.backends.cpu import library; {report}"], cwd=ROOT)


def make_environment() -> None:
    """Create the virtual environment with this Python or, for the newest, with the newest one on this machine."""
    if not NEWEST:
        venv.create(ENVIRONMENT, with_pip=True)
        return
    on_path = [path for name in ("python3.13", "python3.12") if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(pyenv.glob("versions/3.1[23].*/bin/python3"), reverse=True)
    for python in (*of_pyenv, *on_path):
        if subprocess.run([python, "-m", "venv", ENVIRONMENT], capture_output=True).returncode == 0:
            return
    sys.exit("there is no Python 3.12 or 3.13 here that could run the core's tests with the newest JAX: install one")


def share_kernel(python: Path) -> None:
    """Make the folder of the kernels in the environment of `python` a link to that in .venv, which may be built later.

    The kernels of both would have the same sources, and the same headers of XLA: see `requires` in pyproject.toml. A kernel that
    was built from other sources is refused when it is loaded.
    """
    code = "import sysconfig; print(sysconfig.get_path('platlib'), end='')"
    pythons = (python, ROOT / ".venv" / "bin" / "python")
    link, folder = (Path(subprocess.check_output([path, "-c", code], text=True), "jlstm/backends") for path in pythons)
    if not link.is_symlink():
        shutil.rmtree(link, ignore_errors=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)


def version(python: Path, remedy: str) -> tuple[int, ...]:
    """Return the major and minor version of an interpreter, or exit with the remedy if it does not run."""
    process = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"the Python in {python.parents[1].name} does not run: {remedy}")
    return tuple(map(int, process.stdout.split()))


if __name__ == "__main__":
    main()
