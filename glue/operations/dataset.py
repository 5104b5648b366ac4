"""Builds a night's data set, by a job."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.clients import jobs, knowledge
from glue.clients.jobs import Job
from glue.clients.open_webui import NOTES
from glue.clients.site import Site
from glue.core import files, lock, names
from glue.core.recipes import Recipe
from glue.serving import pages

# writing questions about documents ends after half an hour, other ways to ask after a quarter; the
# rest takes minutes
BUILD_SECONDS = 5400


def build(site: Site) -> dict[str, Any]:
    """`glue dataset build`: state/dataset as tonight's would be. Returns its card and where its
    page is. Raises Locked during a night."""
    folder = site.state / "dataset"
    with lock.hold(site.state, lock.TRAINING, "a data set"):
        found = build_in(site, site.recipe(), folder, "tonight", for_night=False)
        address = pages.ensure(site)
    page = {"page": str(folder / "page.html"), "page_in_the_chat": address}
    return {**found["card"], "folder": str(folder), **page}


def build_in(
    site: Site, recipe: Recipe, folder: Path, name: str, for_night: bool = True
) -> dict[str, Any]:
    """Under the lock for nights. Returns what the job says: card, new, too_little (in words; then
    nothing is written), question, fingerprints, origins."""
    state = site.state
    inputs = (
        names.FORGOTTEN,
        names.GLOSSARY,
        names.GOLDEN,
        recipe.replay_file,
        "nights",
        "dataset",
    )
    outputs = [folder] if for_night is False else [folder.parent]
    files.make_folder(outputs[0], 0o755 if for_night else 0o700)
    for wanted, file in (
        (recipe.document_questions, names.DOCUMENT_QUESTIONS),
        (recipe.paraphrases, names.PARAPHRASES),
    ):
        if wanted:
            jobs.ensure_file(state / file)
            outputs.append(state / file)
    reads = tuple(state / name for name in inputs if name and state / name not in outputs)
    order = order_for(site, recipe) | {
        "folder": str(folder.relative_to(state)),
        "name": name,
        "for_night": for_night,
    }
    job = Job(
        "learning.dataset.build",
        order,
        reads,
        tuple(outputs),
        online=True,
        timeout_seconds=BUILD_SECONDS,
    )
    return jobs.run(site, job)


def order_for(site: Site, recipe: Recipe) -> dict[str, Any]:
    settings, prompts = site.settings, files.read_lines(site.state / names.PROMPTS)
    person, off = site.administrator(), settings["NOTES"] == "off"
    return {
        "recipe": asdict(recipe),
        "known": sorted(learned_before(site)),
        "knowledge": knowledge.current(person, site.state),
        "notes": None if off else knowledge.current(person, site.state, kind=NOTES),
        "system_prompt": settings["SYSTEM_PROMPT"],
        "earlier_prompts": [row for row in prompts if row.keys() == {"system", "template"}],
        "rag_template": settings["RAG_TEMPLATE"],
        "rag_top_k": settings.number("RAG_TOP_K"),
        "phone_region": settings["PHONE_REGION"],
        "chat": settings.people_url,
    }


def learned_before(site: Site) -> set[str]:
    """Fingerprints of the examples of every adapter, trained or held out, including refused,
    rolled back and pruned ones. Examples of a night without a verdict are still new."""
    return {
        fingerprint
        for manifest in site.store.manifests()
        if "verdict" in manifest or "night" not in manifest
        for fingerprint in manifest.get("examples", [])
    }
