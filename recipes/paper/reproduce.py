"""Every table and figure of the paper, by one command.

    python recipes/paper/reproduce.py --size mini --data emodb=DIR ravdess=DIR
    python recipes/paper/reproduce.py --size full --dry-run --allow-missing
    python recipes/paper/reproduce.py --size full --data lssed=DIR iemocap=DIR meld=DIR cremad=DIR
    python recipes/paper/reproduce.py --size masking_study --data speech_folder=DIR cremad=DIR

Runs the cells of a grid (corpus x model x compression x masking x losses x head x states x seed),
each by the recipe's own command; writes results/paper/report.html and report.md: the paper's
figures, ours, and a verdict for each claim. What is done is not done again; after an interruption
the same command goes on.

Sizes: ``mini`` (two CPU cores, an evening), ``full`` (the paper's, needs weights, corpora, GPUs),
``masking_study`` (Table VI at full width on any speech of 50 hours or more).
"""

import argparse
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import plan  # noqa: E402
import report  # noqa: E402
from cells import TABLES, Grid, read_size  # noqa: E402
from runner import Runner  # noqa: E402


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="mini", help="mini, full, masking_study or a file")
    parser.add_argument("--tables", default="all", help=f"all, or some of {','.join(TABLES)}")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR", help="the inputs")
    parser.add_argument(
        "--speech-hours", type=float, help="masking_study: of your corpus, for the plan"
    )
    parser.add_argument("--work", type=Path, help="default: recipes/paper/results/<size>")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "paper")
    parser.add_argument("--jobs", type=int, help="commands at once; default: cores, or GPUs' one")
    parser.add_argument("--threads", type=int, help="of each command; default: cores / jobs")
    parser.add_argument("--budget-hours", type=float, help="begin nothing that would end later")
    parser.add_argument("--dry-run", action="store_true", help="plan, commands and one step each")
    parser.add_argument("--no-steps", action="store_true", help="with --dry-run: no steps")
    parser.add_argument("--allow-missing", action="store_true", help="plan without the inputs")
    parser.add_argument("--report-only", action="store_true", help="render what there is")
    return parser.parse_args(argv)


def wanted_tables(text, settings):
    """Tables from ``all`` or ``II,VI,F5``; ValueError for others."""
    names = (
        tuple(settings.get("only_tables", TABLES))
        if text == "all"
        else tuple(n.strip() for n in text.split(",") if n.strip())
    )
    unknown = sorted(set(names) - set(TABLES))
    if unknown or not names:
        raise ValueError(f"--tables {text}: choose all, or some of {', '.join(TABLES)}")
    return names


def read_inputs(pairs):
    """``name=DIR`` pairs as a dict."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ValueError(f"--data {wrong[0]}: write name=DIR")
    return dict(pair.split("=", 1) for pair in pairs)


def main(argv=None):
    """The command; returns the exit status."""
    asked = parse(argv)
    try:
        settings = read_size(asked.size)
        scale = (asked.speech_hours or 1) / settings.get("speech_hours", asked.speech_hours or 1)
        grid = Grid(settings, wanted_tables(asked.tables, settings), scale)
        inputs = read_inputs(asked.data)
        missing = plan.missing_inputs(settings, inputs)
    except ValueError as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return 2
    work = asked.work or HERE / "results" / Path(asked.size).stem
    jobs = asked.jobs or settings.get("jobs") or plan.cores()
    threads = asked.threads or settings.get("threads")
    runner = Runner(grid, work, inputs, jobs, threads, lambda r: write_rows(r, asked))
    if asked.report_only:
        return render(runner, asked)
    print(plan.as_text(runner, settings, asked.budget_hours, commands=asked.dry_run))
    print(plan.missing_text(missing))
    if asked.dry_run:
        steps = 0 if asked.no_steps else plan.run_steps(asked.size, work)
        return steps or (1 if missing and not asked.allow_missing else 0)
    if missing:
        return 2
    return run(runner, asked)


def run(runner, asked):
    """Run the grid, then render; 0, or 1 where a cell failed, or 130 after an interruption."""
    for kind in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: shells' background jobs ignore it
        signal.signal(kind, signal.default_int_handler)
    budget = None if asked.budget_hours is None else 3600 * asked.budget_hours
    try:
        left = runner.run(budget)
    except KeyboardInterrupt:
        write_rows(runner, asked)
        print("\nreproduce: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return 2
    failed = {name: reason for name, reason in left.items() if "failed" in reason}
    for name, reason in left.items():
        print(f"not done: {name}: {reason}")
    return render(runner, asked) or (1 if failed else 0)


def write_rows(runner, asked):
    """rows.json of the whole size, whatever tables this run was asked for."""
    whole = Grid(read_size(asked.size))
    Runner(whole, runner.work, runner.inputs, runner.jobs, runner.threads).write_rows(
        Path(asked.size).stem
    )


def render(runner, asked):
    """The report of what there is."""
    write_rows(runner, asked)
    return report.main(["--work", str(runner.work), "--out", str(asked.out)]) or 0


if __name__ == "__main__":
    sys.exit(main())
