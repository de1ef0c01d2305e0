"""scripts/reproduce_experiments on a small folder of experiments made up for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "reproduce_experiments"

# An experiment: a row for each of --values, half of them before it fails where `stop` lies there.
EXPERIMENT = """#!/usr/bin/env python3
import json, pathlib, sys
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
values = words[words.index("--values") + 1 :] if "--values" in words else ["1", "2"]
values = values[: next((i for i, w in enumerate(values) if w.startswith("--")), None)]
out.mkdir(parents=True, exist_ok=True)
file = out / "results.json"
rows = json.loads(file.read_text())["rows"] if file.exists() else []
for value in values:
    if value in [row["value"] for row in rows]:
        continue
    if value == "2" and pathlib.Path("stop").exists():
        sys.exit("no further")
    rows.append({"value": value})
    pathlib.Path("log").open("a").write(value + "\\n")
    command = " ".join(sys.argv)
    file.write_text(json.dumps({"environment": {"command": command}, "rows": rows}))
answer = f"There are {len(rows)}, or 2.5. A third. More."
page = f"# How | many?\\n\\n{answer}\\n\\n![It](figure.png)\\n\\n"
(out / "README.md").write_text(page + f"`{sys.argv[0]}`: {len(rows)} networks, fast.\\n")
"""


@pytest.fixture
def root(tmp_path):
    """Two pages of one script, one of them from a file that only somebody else has; two scripts
    without a page; and what they share, which is no experiment."""
    (tmp_path / "experiments").mkdir()
    for name in ("counting", "new"):
        (tmp_path / "experiments" / f"{name}.py").write_text(EXPERIMENT)
    (tmp_path / "experiments" / "sharing.py").write_text('"""Shared."""\n')
    page(tmp_path, "counted", "experiments/counting.py --values 1 2 3 --out docs/counted")
    page(tmp_path, "foreign", "experiments/counting.py --source theirs.npz --out=elsewhere")
    return tmp_path


def page(root, name, command):
    folder = root / "docs" / "experiments" / name
    folder.mkdir(parents=True)
    results = {"environment": {"command": command}, "rows": [{"value": "1"}]}
    (folder / "results.json").write_text(json.dumps(results))


def reproduce(root, *options):
    command = [sys.executable, str(SCRIPT), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def table(path):
    """{name or title: cells} of the table between the markers."""
    (told,) = re.findall(r"<!-- experiments -->\n\n(.*?)\n\n<!-- end -->", path.read_text(), re.S)
    lines = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in told.splitlines()[2:]]
    return {re.sub(r"\[.*\]\((.*)/README.md\)", r"\1", cells[0]): cells[1:] for cells in lines}


def test_all_are_run_anew_with_the_options_of_their_pages(root):
    done = reproduce(root)
    assert done.returncode == 0, done.stderr
    told = table(root / "runs" / "reproduced" / "README.md")
    assert told["counted"] == [
        "There are 3, or 2.5. A third.",
        '<img src="counted/figure.png" width="240" alt="counted">',
        "`experiments/counting.py --values 1 2 3 --out runs/reproduced/counted`",
    ]
    assert told["new"][0] == "There are 2, or 2.5. A third."  # no page yet: its defaults
    assert "sharing" not in done.stdout and set(told) == {"counted", "foreign", "new"}
    assert (root / "log").read_text().split() == ["1", "2", "3", "1", "2"]
    assert (
        "[How \\| many?](counted/README.md)"
        in (root / "runs" / "reproduced" / "README.md").read_text()
    )


def test_what_needs_files_of_the_users_is_left_out_until_it_is_given_them(root):
    done = reproduce(root, "--only", "foreign")
    assert done.returncode == 0
    reason = 'its --source theirs.npz is not there; give yours: --give foreign "--source PATH"'
    assert f"foreign: left out, since {reason}" in done.stdout
    assert table(root / "runs/reproduced/README.md")["foreign"][0] == f"left out, since {reason}"
    (root / "mine.npz").touch()
    done = reproduce(root, "--only", "foreign", "--give", "foreign", "--source mine.npz --values 7")
    told = table(root / "runs/reproduced/README.md")["foreign"]
    assert told[0] == "There are 1, or 2.5. A third." and "theirs" not in told[2]
    assert "--source mine.npz" in told[2] and "--values 7" in told[2]


@pytest.mark.parametrize("option", ["--data", "--detection", "--segmentation", "--pose"])
def test_a_folder_that_is_not_there_is_named_with_its_option(root, option):
    page(root, "photographs", f"experiments/counting.py {option} theirs --out=elsewhere")
    done = reproduce(root, "--only", "photographs", "--list")
    assert f"left out, since its {option} theirs is not there" in done.stdout


def test_a_stop_goes_on_with_what_is_missing_and_is_not_taken_for_a_whole(root):
    (root / "stop").touch()
    done = reproduce(root, "--only", "counted")
    assert done.returncode == 1 and "failed: counted" in done.stderr
    assert table(root / "runs/reproduced/README.md")["counted"][0] == "not finished: 1 rows"
    (root / "stop").unlink()
    assert reproduce(root, "--only", "counted").returncode == 0
    assert (root / "log").read_text().split() == ["1", "2", "3"]
    assert (
        table(root / "runs/reproduced/README.md")["counted"][0] == "There are 3, or 2.5. A third."
    )


def test_a_page_from_before_further_rows_is_not_finished(root):
    assert reproduce(root, "--only", "counted").returncode == 0
    results = root / "runs/reproduced/counted/results.json"
    more = json.loads(results.read_text())
    more["rows"].append({"value": "9"})
    results.write_text(json.dumps(more))
    reproduce(root, "--only", "new")
    assert table(root / "runs/reproduced/README.md")["counted"][0] == "not finished: 4 rows"


def test_the_table_is_put_into_its_place_and_the_text_around_it_stays(root):
    document = root / "docs" / "experiments" / "README.md"
    document.write_text("# Mine\n\n<!-- experiments -->\nold\n<!-- end -->\n\nBelow.\n")
    assert reproduce(root, "--out", "docs/experiments", "--only", "counted").returncode == 0
    text = document.read_text()
    assert text.startswith("# Mine\n\n<!-- experiments -->") and text.endswith("\n\nBelow.\n")
    assert "old" not in text
    # the row that lay there was not measured again
    assert (root / "log").read_text().split() == ["2", "3"]


def test_a_list_runs_nothing_and_unknown_names_are_refused(root):
    done = reproduce(root, "--list")
    assert "counted: experiments/counting.py --values 1 2 3 --out runs/" in done.stdout
    assert not (root / "log").exists() and not (root / "runs").exists()
    done = reproduce(root, "--out", "docs/experiments", "--table")
    assert not (root / "log").exists()
    told = table(root / "docs/experiments/README.md")
    assert told["counted"][0] == told["foreign"][0] == "not finished: 1 rows"
    done = reproduce(root, "--only", "count")
    assert done.returncode == 1
    assert "no experiment 'count'; there are counted, foreign, new" in done.stderr


def test_small_is_for_every_experiment_that_needs_no_files_of_the_users():
    """Of the project itself; and its source is a short training of its own."""
    done = reproduce(SCRIPT.parents[1], "--small", "--list")
    commands = [line for line in done.stdout.splitlines() if ": experiments/" in line]
    assert len(commands) >= 12 and all("--seeds 2" in line for line in commands)
    assert all("--updates" in line or "--epochs 0 1 2" in line for line in commands)
    transfers = [line for line in commands if "/transfer" in line]
    assert transfers and all("--source runs/reproduced/street" in line for line in transfers)
    assert "# its page took 0:" in commands[0] and "together " in done.stdout
