"""The quickstart as it is shipped, in small: real stages, few voices, few steps."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[3] / "recipes" / "quickstart"))

import quickstart as driver

from vesper_lobes.run_metrics import read_metrics

SMALLER = (
    ("--speakers 24 --sentences 12", "--speakers 6 --sentences 2"),
    ("--num_steps 130", "--num_steps 4 --batch_size 4"),
    ("--warmup_steps 10 --cluster_frames 50000", "--warmup_steps 1 --num_clusters 10"),
    ("--export {results}/model", "--export {results}/model --number_of_epochs 2"),
)


@pytest.fixture
def stages(tmp_path):
    """The shipped stages.yaml with fewer voices and steps."""
    text = yaml.safe_dump({"stages": driver.read_stages()}, width=10_000)
    for shipped, smaller in SMALLER:
        assert shipped in text
        text = text.replace(shipped, smaller)
    path = tmp_path / "stages.yaml"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_every_stage_runs_and_a_second_run_does_nothing_again(tmp_path, stages, capfd):
    arguments = ["--results_folder", str(tmp_path / "results"), "--stages", str(stages)]
    assert driver.main(arguments) == 0, capfd.readouterr().err
    results = tmp_path / "results"
    metrics = read_metrics(results / "metrics.json")
    assert set(metrics["baselines"]) == {"mfcc_ridge", "random_init", "teacher", "extraction"}
    assert len(metrics["seeds"]) == 3 and metrics["ssl_saw_test_audio"] is False
    assert (results / "model" / "model.safetensors").is_file()
    assert "synthetic" in (results / "report.html").read_text(encoding="utf-8")

    assert driver.main(arguments) == 0
    timings = json.loads((results / "timings.json").read_text())
    reused = {stage["name"]: stage["reused"] for stage in timings["stages"]}
    assert reused.pop("report") is False and all(reused.values())
