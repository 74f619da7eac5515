"""The driver: finished stages are skipped, changed ones done anew, interrupted ones taken up."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[3] / "recipes" / "quickstart"))

import quickstart as driver

ROOT = driver.ROOT
APPEND = "import sys; f = open(sys.argv[1], 'a'); f.write(sys.argv[2]); f.close()"


def stage(name, *commands, **changes):
    """A stage whose commands run in the checkout's root."""
    entry = {
        "name": name,
        "title": name,
        "what": "",
        "budget": 1,
        "folder": ".",
        "commands": list(commands),
        "code": ["data_prep/__init__.py"],
        "writes": [f"{{work}}/{name}"],
    }
    return {**entry, **changes}


def append(name, letter):
    """A command that leaves a letter in {work}/<name>, so that runs can be counted."""
    return f'python -c "{APPEND}" {{work}}/{name} {letter}'


def run(folder, *stages):
    """Run stages in a results folder; their records."""
    return driver.Quickstart(folder, list(stages), say=lambda line: None).run()


def test_finished_stages_are_skipped_with_their_seconds(tmp_path):
    first = run(tmp_path, stage("a", append("a", "x")), stage("b", append("b", "y")))
    second = run(tmp_path, stage("a", append("a", "x")), stage("b", append("b", "y")))
    assert (tmp_path / "work/a").read_text() == "x" and (tmp_path / "work/b").read_text() == "y"
    assert [r["reused"] for r in first] == [False, False]
    assert [r["reused"] for r in second] == [True, True]
    assert [r["seconds"] for r in first] == [r["seconds"] for r in second]
    assert all(r["seconds"] > 0 for r in second)


def test_a_changed_command_does_that_stage_and_all_later_ones_anew(tmp_path):
    run(tmp_path, stage("a", append("a", "x")), stage("b", append("b", "y")))
    run(tmp_path, stage("a", append("a", "z")), stage("b", append("b", "y")))
    assert (tmp_path / "work/a").read_text() == "z"  # what it wrote before was removed first
    assert (tmp_path / "work/b").read_text() == "y"
    records = run(tmp_path, stage("a", append("a", "z")), stage("b", append("b", "q")))
    assert [r["reused"] for r in records] == [True, False]
    assert (tmp_path / "work/b").read_text() == "q"


def test_changed_code_changes_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "ROOT", tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "x.py").write_text("1")
    stages = [stage("a", code=["code"]), stage("b")]
    (tmp_path / "data_prep").mkdir()
    (tmp_path / "data_prep" / "__init__.py").write_text("")
    before = driver.stage_keys(stages)
    (tmp_path / "code" / "notes.md").write_text("not code")
    assert driver.stage_keys(stages) == before
    (tmp_path / "code" / "x.py").write_text("2")
    after = driver.stage_keys(stages)
    assert after["a"] != before["a"] and after["b"] != before["b"]


def test_a_failed_stage_stops_the_run_and_is_taken_up(tmp_path):
    flag = tmp_path / "flag"
    fails = f"python -c \"import os, sys; sys.exit(not os.path.exists('{flag}'))\""
    stages = [stage("a", append("a", "x"), fails), stage("b", append("b", "y"))]
    with pytest.raises(driver.StageError, match="exit status 1"):
        run(tmp_path, *stages)
    assert not (tmp_path / "work/b").exists()
    flag.touch()
    run(tmp_path, *stages)
    assert (tmp_path / "work/a").read_text() == "xx"  # not removed: its own checkpoints are there
    assert (tmp_path / "work/b").read_text() == "y"


def test_the_report_is_always_made_anew(tmp_path):
    stages = [stage("a", append("a", "x")), stage("report", append("report", "r"), always=True)]
    run(tmp_path, *stages)
    records = run(tmp_path, *stages)
    assert (tmp_path / "work/report").read_text() == "rr"
    assert [r["reused"] for r in records] == [True, False]


def test_no_stage_removes_what_lies_outside_the_results(tmp_path):
    kept = tmp_path / "kept"
    kept.touch()
    for place in (str(kept), "{results}", "{work}/../../kept"):
        with pytest.raises(ValueError, match="may not write"):
            run(tmp_path / "results", stage("a", writes=[place]))
    assert kept.exists()


def test_stages_run_offline(tmp_path):
    show = "import os; open(r'{work}/env', 'w').write(os.environ['HF_HUB_OFFLINE'])"
    run(tmp_path, stage("a", f'python -c "{show}"'))
    assert (tmp_path / "work/env").read_text() == "1"


def test_timings_name_every_stage(tmp_path):
    run(tmp_path, stage("a", append("a", "x")), stage("b", append("b", "y")))
    timings = json.loads((tmp_path / "timings.json").read_text())
    assert [entry["name"] for entry in timings["stages"]] == ["a", "b"]
    total = sum(entry["seconds"] for entry in timings["stages"])
    assert timings["total_seconds"] == pytest.approx(total, abs=0.1)
    assert timings["stages"][0]["commands"][0].endswith(" x")


def test_the_stages_as_shipped_exist_and_fit_the_promise():
    stages = driver.read_stages()
    assert [s["name"] for s in stages][0] == "corpus" and stages[-1]["name"] == "report"
    assert sum(s["budget"] for s in stages) <= 300  # seconds; eight minutes with the install
    for entry in stages:
        assert (ROOT / entry["folder"]).is_dir()
        for path in entry["code"]:
            assert (ROOT / path).exists(), path
        for command in entry["commands"]:
            words = command.split()
            assert words[0] == "python"
            script = ROOT / entry["folder"] / words[1]
            assert words[1] == "-m" or script.is_file(), command
            for word in words[2:]:
                if word.startswith("hparams/"):
                    settings = (ROOT / entry["folder"] / word).read_text()
                    named = {w[2:] for w in words if w.startswith("--")}
                    assert named <= set(_keys(settings))


def _keys(text):
    """Top-level keys of a HyperPyYAML file, its tags left alone."""
    return [key.value for key, _ in yaml.compose(text).value]


def test_main_reports_failure_in_words(tmp_path, capsys):
    path = tmp_path / "stages.yaml"
    path.write_text(yaml.safe_dump({"stages": [stage("a", 'python -c "raise SystemExit(3)"')]}))
    arguments = ["--results_folder", str(tmp_path / "r"), "--stages", str(path)]
    assert driver.main(arguments) == 1
    assert "exit status 3" in capsys.readouterr().err
