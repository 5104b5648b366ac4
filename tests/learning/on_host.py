"""Runs learning's clients and jobs without their container, for tests."""

from __future__ import annotations

import importlib
from typing import Any

from glue.clients import jobs
from glue.clients.site import Site
from learning import chat, model
from learning.job import Job


def served(site: Site) -> model.Model:
    return model.Model(site.stacks.address("vllm"), site.settings["MODEL_API_KEY"])


def talk(site: Site) -> chat.Chat:
    return chat.signed_in(site.settings.chat_url, jobs.token(site))


def job(site: Site, order: dict[str, Any]) -> Job:
    return Job(order, site.state, served(site), talk(site), site.tell)


def run_offline(site: Site, asked: jobs.Job, *_: object) -> dict[str, Any]:
    """A stand-in for jobs.run: the job runs in this process, without a network."""
    module = importlib.import_module(asked.module)
    act = getattr(module, asked.module.rpartition(".")[2].replace("report_page", "draw"))
    nowhere = Job(asked.order, site.state, model.Model("", ""), chat.signed_in("", ""), site.tell)
    found: dict[str, Any] = act(nowhere)
    return found
