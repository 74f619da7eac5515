"""The set-up script: what it refuses, and when it has nothing to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """A folder with what the script reads."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "make_venv.sh", tmp_path / ".ci")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    return tmp_path


def set_up(checkout, **environment):
    """Run the script with a `.venv`."""
    command = ["sh", ".ci/make_venv.sh", ".venv"]
    cleared = {
        k: v for k, v in os.environ.items() if k not in ("PYTHON", "PIP_ARGS", "TORCH_INDEX")
    }
    return subprocess.run(
        command, cwd=checkout, env={**cleared, **environment}, capture_output=True, text=True
    )


def test_an_unfit_python_is_refused_and_nothing_is_removed(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "kept").touch()
    done = set_up(checkout, PYTHON="/bin/false")
    assert done.returncode == 1 and "is not a Python 3.10 or newer" in done.stderr
    assert (checkout / ".venv" / "kept").exists()


def test_two_set_ups_do_not_run_into_each_other(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".setup-running").write_text(str(os.getpid()))
    done = set_up(checkout)
    assert done.returncode == 1 and "another set-up" in done.stderr


def test_an_up_to_date_environment_is_left_alone(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    text = (checkout / "requirements.txt").read_bytes() + b" \n"  # and two empty settings
    stamp = subprocess.run(["cksum"], input=text, capture_output=True).stdout
    (checkout / ".venv" / ".stamp").write_bytes(stamp)
    done = set_up(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_make_shows_its_targets():
    shown = subprocess.run(
        ["make", "-n", "test", "lint", "quickstart"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for word in ("make_venv.sh", "-m pytest", "ruff check", "yamllint", "quickstart.py"):
        assert word in shown
