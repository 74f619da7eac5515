"""``EpochCounterWithStopper(direction="max")`` never stops on a plateau: ours picks, not stops."""

import re
from pathlib import Path

from speechbrain.utils.epoch_loop import EpochCounterWithStopper

ROOT = Path(__file__).resolve().parents[2]


def epochs_run(direction, metric):
    counter = EpochCounterWithStopper(20, limit_to_stop=3, limit_warmup=0, direction=direction)
    for epoch in counter:  # noqa: B007
        counter.update_metric(metric)
    return epoch


def test_the_trap_is_real():
    assert epochs_run("max", 0.7) == 20  # every equal score counts as better
    assert epochs_run("min", 0.3) == 4


def test_no_yaml_of_ours_monitors_with_max():
    files = [*(ROOT / "recipes").rglob("*.yaml")]
    assert len(files) >= 2
    for path in files:
        text = path.read_text()
        stopper = re.search(r"EpochCounterWithStopper(\n .*)+", text)
        assert not stopper or "max" not in stopper[0], path
