"""python -m rehearsal: the demonstration."""

from __future__ import annotations

import json
from typing import Any

import click

from glue.cli import framework
from glue.cli.main import main
from rehearsal import demo


@click.command(params=list(framework.cli.params), context_settings=framework.cli.context_settings)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def rehearsal(profile: str | None, as_json: bool, **chosen: Any) -> None:
    """Run a whole cycle on invented data: day, corrections, night, a better day, rollback."""
    assert framework.cli.callback is not None
    framework.cli.callback(profile, **chosen)
    result, show = demo.run(profile, framework.teller())
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result)


if __name__ == "__main__":
    main(rehearsal)
