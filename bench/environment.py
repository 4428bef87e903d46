"""What must be there before anything can be measured: Python packages, the peers' program, Burin."""

import os
import subprocess
import sys
import venv
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
REQUIREMENTS = BENCH / "requirements.txt"


def enter(cache):
    """Goes on in the cache's virtual environment, which is made or renewed where it must be."""
    folder = cache / "venv"
    python = folder / "bin/python"
    installed = folder / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.is_file() or installed.read_text() != wanted:
        say("installing " + ", ".join(wanted.split()))
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", REQUIREMENTS], check=True)
        # Last, so that an installation that was broken off is done again.
        installed.write_text(wanted)
    if Path(sys.prefix) != folder:
        os.execv(python, [python, *sys.argv])


def build_peers(cache):
    """The folder with the programs `peer` and `probe`."""
    say("building the peers")
    target = cache / "target"
    cargo("--manifest-path", BENCH / "peers/Cargo.toml", "--target-dir", target)
    return target / "release"


def build_burin():
    say("building Burin")
    cargo("--manifest-path", ROOT / "Cargo.toml", "--package", "burin")
    return ROOT / "target/release/burin"


def cargo(*options):
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", *options], check=True)


def library(package, pattern):
    """A shared library in an installed Python package."""
    folder = next(Path(sys.prefix).glob(f"lib/python*/site-packages/{package}"))
    return next(folder.glob(pattern))


def say(text):
    print(text, file=sys.stderr, flush=True)
