"""The verbs that reach, or answer, another Spark."""

from __future__ import annotations

import sys
from typing import Any

import click

from glue.cli import framework, show
from glue.clients.site import Site
from glue.night import elsewhere
from glue.peers import answers, link
from glue.serving import status


def status_verb(site: Site) -> dict[str, Any]:
    """Show the mode, what serves, and the last night. Exit code 13: something is overdue."""
    peers = {peer.host: link.look(peer) for peer in link.peers(site.state)}
    return {**status.status(site), "peers": peers}


REQUEST = click.Argument(["request"], default="", envvar="SSH_ORIGINAL_COMMAND")
peer = framework.group("peer", "Reach another Spark, whose key may ask five things here.")
framework.verb(status_verb, show=show.status)
framework.verb(link.add, group=peer, typed="make setup-peer HOST=spark-b")
framework.verb(link.accept, group=peer)
framework.verb(answers.answer, group=peer, options=[REQUEST], show=sys.stdout.write)
framework.verb(elsewhere.train, group=peer)
