"""Judging what is served: the candidate beside the current adapter, in the vLLM that the office will use."""

from __future__ import annotations

from glue import gate, vllm
from glue.recipes import Recipe
from glue.site import Site
from glue.types import Dataset, Example, Verdict
from glue.vllm import Vllm


def judge(site: Site, candidate: str, dataset: Dataset, recipe: Recipe) -> Verdict:
    """candidate: the vLLM name of the loaded candidate."""
    served = site.vllm()
    current = vllm.ADAPTER if site.releases.current() else vllm.BASE
    scores = {
        part: (score(site, served, candidate, rows, part), score(site, served, current, rows, part))
        for part, rows in (("held-out", dataset.held_out), ("general", dataset.general))
    }
    return gate.verdict(scores["held-out"], scores["general"], recipe.least_gain, recipe.most_forgetting)


def score(site: Site, served: Vllm, name: str, rows: tuple[Example, ...], part: str) -> list[float]:
    site.tell(f"judging {name} on {len(rows)} {part} answers")
    return [served.likelihood(name, row) for row in rows]
