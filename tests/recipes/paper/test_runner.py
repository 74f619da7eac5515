"""The runner: nothing twice or stale; a failure stops only what needs it; a kill, one cell."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "recipes" / "paper"))
from cells import Cell  # noqa: E402
from runner import Runner, alone  # noqa: E402

WRITE = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(exist_ok=True); "
WRITE += "open(p, 'a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"


class Plan:
    """A grid of given cells."""

    def __init__(self, *cells):
        self.cells, self.rows = {cell.name: cell for cell in cells}, []


def cell(name, text="x", needs=(), status=0, minutes=0.01, code=WRITE):
    words = ["python", "-c", code, f"{{work}}/out/{name}", text, str(status)]
    return Cell(name, ".", words, f"out/{name}", tuple(needs), minutes)


def content(work, name):
    path = work / "out" / name
    return path.read_text() if path.is_file() else None


def test_cells_run_once_and_in_order(tmp_path):
    plan = Plan(cell("a"), cell("b", needs=["a"]))
    assert Runner(plan, tmp_path, {}, jobs=2).run() == {}
    assert Runner(plan, tmp_path, {}, jobs=2).run() == {}
    assert (content(tmp_path, "a"), content(tmp_path, "b")) == ("x", "x")
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["cells"]["b"]["done"] and state["wall_seconds"] > 0


def test_a_changed_command_runs_again_with_all_that_follows(tmp_path):
    Runner(Plan(cell("a"), cell("b", needs=["a"]), cell("c")), tmp_path, {}).run()
    Runner(Plan(cell("a", "y"), cell("b", needs=["a"]), cell("c")), tmp_path, {}).run()
    assert [content(tmp_path, name) for name in "abc"] == ["xy", "xx", "x"]


def test_what_is_gone_is_made_again(tmp_path):
    plan = Plan(cell("a"), cell("b"))
    Runner(plan, tmp_path, {}).run()
    (tmp_path / "out/a").unlink()
    Runner(plan, tmp_path, {}).run()
    assert [content(tmp_path, name) for name in "ab"] == ["x", "x"]


def test_a_failure_stops_only_what_needs_it(tmp_path):
    plan = Plan(cell("a", status=3), cell("b", needs=["a"]), cell("c"), cell("d", needs=["b"]))
    left = Runner(plan, tmp_path, {}).run()
    assert "exit status 3" in left["a"] and left["b"] == "needs a" and left["d"] == "needs b"
    assert content(tmp_path, "c") == "x"


def test_a_cell_that_writes_nothing_has_failed(tmp_path):
    left = Runner(Plan(cell("a", code="pass")), tmp_path, {}).run()
    assert "failed" in left["a"]


def test_the_budget_counts_earlier_sessions(tmp_path):
    plan = Plan(cell("a", minutes=1), cell("b", minutes=1))
    runner = Runner(plan, tmp_path, {})
    runner.state["wall_seconds"] = 100.0
    left = runner.run(budget_seconds=130)
    assert set(left) == {"a", "b"} and "budget" in left["a"]
    assert Runner(plan, tmp_path, {}).run(budget_seconds=300) == {}


def test_folders_may_move_and_inputs_are_filled_in(tmp_path):
    words = ["python", "-c", WRITE, "{work}/out/a", "{corpus}", "0"]
    plan = Plan(Cell("a", ".", words, "out/a"))
    (tmp_path / "one").mkdir()
    Runner(plan, tmp_path, {"corpus": tmp_path / "one"}).run()
    assert content(tmp_path, "a") == str(tmp_path / "one")
    assert Runner(plan, tmp_path, {"corpus": tmp_path / "two"}).is_done("a")


def test_two_runs_do_not_share_a_folder(tmp_path):
    with alone(tmp_path), pytest.raises(RuntimeError, match="another run"):
        Runner(Plan(cell("a")), tmp_path, {}).run()
    assert Runner(Plan(cell("a")), tmp_path, {}).run() == {}


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_goes_on(tmp_path, kind):
    """Killed while the second cell runs: the first is kept, the second run anew."""
    script = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as reproduce.py: else ignored by jobs
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "recipes/paper")!r}, {str(Path(__file__).parent)!r}]
from test_runner import Plan, cell, SLOW
from runner import Runner
Runner(Plan(cell("a"), cell("b", needs=["a"], code=SLOW)), {str(tmp_path)!r}, {{}}).run()
"""
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/b.began").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, kind)
    process.wait(30)
    assert content(tmp_path, "a") == "x" and content(tmp_path, "b") is None
    (tmp_path / "go").touch()
    assert Runner(Plan(cell("a"), cell("b", needs=["a"], code=SLOW)), tmp_path, {}).run() == {}
    assert (content(tmp_path, "a"), content(tmp_path, "b")) == ("x", "x")


SLOW = """import sys, pathlib, time
p = pathlib.Path(sys.argv[1])
p.with_name(p.name + ".began").touch()
while not (p.parents[1] / "go").exists(): time.sleep(0.05)
p.write_text(sys.argv[2])"""
