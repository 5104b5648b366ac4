"""What a day, a night or a setup needs, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from glue.clients import chat_volume, document_index, host, webui_accounts
from glue.clients.docker import MOUNTED
from glue.clients.site import Site
from glue.core import beside_plan, files, lock
from glue.core.errors import PreconditionFailed
from glue.core.services import ABSENT
from glue.machine import (
    backup_folder,
    container_checks,
    hardware_checks,
    site_checks,
    storage_checks,
    tls,
)
from glue.machine import models as machine_models
from glue.machine.check_types import Grade, Host, View

CHECKS: dict[str, Callable[[Host], View]] = {
    "system": hardware_checks.system,
    "driver": hardware_checks.driver,
    "clocks": hardware_checks.clocks,
    "model": hardware_checks.model,
    "memory": hardware_checks.memory,
    "night beside": hardware_checks.night_beside,
    "page cache": hardware_checks.page_cache,
    "disk": storage_checks.disk,
    "docker": container_checks.docker,
    "GPU toolkit": container_checks.toolkit,
    "day's images": container_checks.images,
    "night's image": partial(container_checks.images, night=True),
    "volumes": storage_checks.volumes,
    "night's cache": partial(storage_checks.volumes, night=True),
    "served model": partial(storage_checks.model, key="SERVED_MODEL"),
    "trained model": partial(storage_checks.model, key="TRAINED_MODEL"),
    "answer": container_checks.answer,
    "embedding": container_checks.embedding,
    "repository": storage_checks.repository,
    "state folder": storage_checks.state_folder,
    "state files": storage_checks.state_files,
    "secrets": site_checks.secrets,
    "model keys": site_checks.model_keys,
    "port": site_checks.port,
    "certificate": site_checks.certificate,
    "time zone": site_checks.time_zone,
    "replay": site_checks.replay,
    "account": site_checks.account,
    "documents": site_checks.documents,
    "backups": storage_checks.backups,
}
Aim = tuple[str, ...]
ALL: Aim = tuple(CHECKS)
# fmt: off
SETUP: Aim = (
    "system", "driver", "disk", "docker", "GPU toolkit", "state folder", "embedding", "port",
    "time zone",
)
DAY: Aim = (
    "docker", "GPU toolkit", "day's images", "volumes", "served model", "embedding", "secrets",
    "port", "certificate",
)
NIGHT: Aim = (
    *DAY, "driver", "clocks", "model", "memory", "night beside", "disk", "state folder",
    "night's image", "night's cache", "trained model",
)
# fmt: on
ONLY_ON_A_SPARK = ("driver", "clocks", "page cache", "GPU toolkit")
ONLY_FROM_THE_HUB = {"served model": "SERVED_MODEL", "trained model": "TRAINED_MODEL"}


@dataclass(frozen=True)
class Finding:
    name: str
    grade: Grade
    saw: str
    do: str = ""

    def __str__(self) -> str:
        line = f"{self.grade:6}{self.name:15}{self.saw}{f'  ->  {self.do}' if self.do else ''}"
        return line.replace("\n", "\n" + " " * 21)


def examine(seen: Host, aim: Aim) -> list[Finding]:
    """A finding for each check of aim that applies here."""
    return [Finding(name, *CHECKS[name](seen)) for name in aim if applies(name, seen)]


def applies(name: str, seen: Host) -> bool:
    if name in ONLY_FROM_THE_HUB:
        return seen.settings[ONLY_FROM_THE_HUB[name]] in seen.settings.needed_models(seen.base)
    if name == "night beside" and not beside_plan.chosen(seen.settings):
        return False
    return not (seen.settings.rehearsal and name in ONLY_ON_A_SPARK)


def require(site: Site, aim: Aim) -> None:
    """Tells what is not ok. Raises PreconditionFailed with every failure, if there is one."""
    found = examine(observe(site, aim), aim)
    for finding in found:
        if finding.grade is not Grade.OK:
            site.tell(str(finding))
    failed = [finding for finding in found if finding.grade is Grade.FAIL]
    if failed:
        saw = "; ".join(f"{finding.name}: {finding.saw}" for finding in failed)
        do = "; ".join(finding.do for finding in failed)
        raise PreconditionFailed("a requirement is not met", saw, do)


def observe(site: Site, aim: Aim) -> Host:
    """Changes nothing. A day reads no recipe: a bad one must not keep the chat from starting."""
    settings, engine = site.settings, site.stacks.engine()
    recipe = site.recipe() if aim != DAY else None
    wanted = settings.needed_models(recipe.base if recipe else "served")
    wrong_files, model_bytes, unseen = machine_models.models(site, wanted)
    chat, sign_in = engine.services.get("open-webui"), site.administrator
    return Host(
        settings=settings,
        recipe=recipe,
        machine=host.observe(),
        engine=engine,
        engine_free_bytes=host.free_disk_bytes(engine.folder),
        state_free_bytes=host.free_disk_bytes(settings.state),
        one_disk=host.on_one_disk(engine.folder, settings.state),
        port_free=host.port_is_free(settings["CHAT_ADDRESS"], settings.number("CHAT_PORT")),
        secrets_mode=host.file_mode(settings.secrets_file),
        replay_there=recipe is not None and (settings.state / recipe.replay_file).is_file(),
        adapters=len(site.store.names()),
        wrong_files=wrong_files,
        model_bytes=model_bytes,
        unseen=unseen,
        certificate_fault=tls.own_fault(site) if settings.https_origins else "",
        answer_fault=answer_fault(site) if "answer" in aim else None,
        closed_files=tuple(host.closed_to_containers(MOUNTED)),
        foreign_files=(foreign := tuple(host.foreign_files(settings.state))),
        foreign_remedy=f"{host.denied(foreign[0]).do}, then make setup" if foreign else "",
        disk_fault=lock.fault(settings.state) if settings.state.exists() else "",
        damaged_files=tuple(files.damaged_files(settings.state)),
        chat_lost=(lost := chat_volume.lost(settings, site.stacks)),
        chat_way_back=chat_volume.way_back(settings) if lost else "",
        account_fault=webui_accounts.fault(chat if "account" in aim else None, sign_in),
        documents_fault=document_index.fault(
            chat if "documents" in aim else None, sign_in, settings.state
        ),
        backup_fault=backup_folder.fault(settings),
        backups_on_own_disk=backup_folder.on_own_disk(settings),
        adapter_fault=adapter_fault(site),
        serves_merged=site.store.serves_merged(),
    )


def adapter_fault(site: Site) -> str:
    current = site.store.current()
    return machine_models.made_for_another(site, current) if current else ""


def answer_fault(site: Site) -> str | None:
    model = site.stacks.services("day").get("vllm", ABSENT)
    runs = model.state == "running" and model.health != "starting"
    return site.vllm().fault() if runs else None
