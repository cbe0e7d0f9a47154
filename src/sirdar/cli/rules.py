# SPDX-License-Identifier: Apache-2.0
"""`sirdar rules`: what the winners of searches have in common, and a model changed by it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options

_SQLITE = b"SQLite format 3"


def rules(
    studies: Annotated[list[Path], typer.Argument(help="study.json of `sirdar search`, one or more.")],
    out: Annotated[Path | None, typer.Option("--out", help="File for the rules, JSON that can be edited.")] = None,
    share: Annotated[float, typer.Option(help="Of a search's trials that count as its best.")] = 0.25,
    chance: Annotated[float, typer.Option(help="Probability by chance below which a pattern is a rule.")] = 0.01,
    rules_file: Annotated[
        Path | None, typer.Option("--rules", help="Rules to apply, in place of finding them in the searches.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="JSON of a model's choices; it is printed as the rules change it.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Find the patterns that the best candidates of searches share, as rules a person can read and change.

    Examples:
        sirdar rules detection/study.json classification/study.json --out rules.json

        sirdar rules detection/study.json --rules rules.json --model mine.json
    """
    from dataclasses import asdict

    from sirdar.search.expert import apply_rules, find_rules, read_rules, write_rules
    from sirdar.search.study import read_study

    for path in studies:
        _refuse_storage(path)
    runs = [read_study(path) for path in studies]
    runs = [run for place, run in enumerate(runs) if run not in runs[:place]]  # given twice, it tells no more
    found = find_rules(runs, share, chance) if rules_file is None else read_rules(rules_file)
    if out is not None:
        write_rules(found, out)
    content: dict[str, object] = {"rules": [{**asdict(rule), "sentence": str(rule)} for rule in found]}
    if model is not None:
        from sirdar.cli.search import read_json

        space = runs[0][0]
        content["model"] = apply_rules(found, space, space.candidate(read_json(model))).as_dict()
    if as_json:
        options.print_json(content)
        return
    count = sum(trial.usable for _, _, trials in runs for trial in trials)
    for rule in found or (f"no pattern in {count} trials is clear enough to be a rule; more would tell more",):
        sys.stdout.write(f"{rule}\n")
    if model is not None:
        sys.stdout.write(json.dumps(content["model"]) + "\n")


def _refuse_storage(path: Path) -> None:
    """A file of `sirdar search --storage` has the trials of several searches, but in a database."""
    from sirdar.errors import DataError

    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                msg = f"{path} is a storage of searches, not a study; give the study.json in the --out of a search"
                raise DataError(msg)
