"""Every file of the state folder in turn is damaged as by a power cut or a failing disk: no verb
ends in a traceback.

The containers are stand-ins; the files and their readers are real.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from glue.clients import webui_accounts
from glue.core import desired_state, files, journal, settings
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.settings import SECRETS, load
from glue.core.upgrade_note import NOTE
from glue.machine import models, tls
from glue.night import night
from glue.operations import dataset, forget, upgrade
from glue.serving import adapters, day, last_night, notify, reconcile, status
from learning.dataset import build, card
from learning.dataset import files as dataset_files
from learning.dataset.prepare import Prepared
from learning.examples import Dataset
from tests.faults.stand_ins import FACTS, StandInSite

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "NULs": lambda content: bytes(len(content)),
    "NULs at its end": lambda content: (
        content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    ),
    "no text": lambda content: b"\xff\xfe" + content,
    "another value": lambda content: b"null\n",
}
FAST = ("cut", "NULs")  # six seconds each


def fill(site: StandInSite) -> None:
    """Writes every file that glue ever writes, including those of two nights."""
    for _ in range(2):
        night.run(site)
    last = max((site.state / "nights").iterdir())
    row = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "origin": {"chat": "c"},
    }
    tables: dict[str, Any] = {
        "models.json": {"a/model": {"revision": "main", "commit": "1", "files": {}}},
        "kernels-passed.json": {"image": "sha256:1"},
        "base_model.json": FACTS,
        settings.LOADED: {"image": "sha256:1"},
        "banner.json": {"adapter": site.store.current(), "text": "learned"},
        "alarm.json": {"what": notify.NOT_SERVING, "time": 0},
        day.ATTEMPTS: [1.0, 2.0],
        NOTE: asdict(upgrade.Move("a", "b", "backup", migrates=False)),
        "turn.json": asdict(DesiredState(Wanted.DAY)),
        "adapters/served.json": [None, *site.store.names()],
        f"adapters/pruned/{last.name}.json": {"name": last.name},
        f"nights/{last.name}/report.json": {"night": last.name, "outcome": "promoted"},
        f"nights/{last.name}/evidence.json": {"samples": []},
        f"nights/{last.name}/dataset/card.json": card.card(
            Prepared((), (), (), {}, 0), Dataset((), (), ()), {}, 1, 1
        ),
    }
    lines = {
        "forgotten.jsonl": {"name": "n", "time": 1.0},
        "replay.jsonl": row,
        "prompts.jsonl": {"system": "You help.", "template": "{{CONTEXT}}"},
        f"nights/{last.name}/progress.jsonl": {"phase": "train", "step": 1, "loss": 2.0},
        f"nights/{last.name}/dataset/train.jsonl": row,
    }
    texts = {
        "webui-token": "token",
        "tls/names": "DNS:spark",
        "secrets.env": "".join(f"{key}={'k' * 24}\n" for key in SECRETS),
    }
    for name, text in (
        *((name, json.dumps(table)) for name, table in tables.items()),
        *((name, json.dumps(line) + "\n") for name, line in lines.items()),
        *texts.items(),
    ):
        (site.state / name).parent.mkdir(parents=True, exist_ok=True)
        (site.state / name).write_text(text)
    # the upgrade of the note died after its day had come up, or no day would be tried
    journal.record(site.state, event="upgrade", result="begun", after="b")
    journal.record(site.state, event="day", phase="done")


def verbs(site: StandInSite, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    monkeypatch.setenv("GLUE_STATE_DIR", str(site.state))
    return {
        "every verb": lambda: load("rehearsal"),
        "status": lambda: status.status(site),
        "adapters": lambda: adapters.listing(site),
        "doctor": lambda: (list(files.damaged_files(site.state)), models.models(site, {})),
        "reconcile": lambda: reconcile.reconcile(site),
        "day": lambda: day.start(site, day.Caller.TIMER),
        "banner": lambda: last_night.kept_banner(site.state, None),
        "rollback": lambda: adapters.rollback(site),
        "promote": lambda: adapters.promote(site, site.store.names()[-1]),
        "prune": lambda: adapters.prune(site, 1),
        "forget": lambda: forget.forget(site, "chat", "c"),
        "dataset": lambda: (
            dataset.learned_before(site),
            dataset_files.earlier_preferences(site.state),
        ),
        "replay": lambda: build.read_replay(site.state / "replay.jsonl"),
        "setup": lambda: models.ensure_models(site, {}),
        "upgrade": lambda: upgrade.kept(site),
        "load": lambda: files.read_json_if_whole(site.state / settings.LOADED, {}),
        "https": lambda: tls.is_signed_here(site.state / "tls", ["localhost"]),
        "ask": lambda: webui_accounts.administrator(site.settings),
        "alarm": lambda: notify.tell_once(site, notify.NOT_SERVING, "words"),
        "all clear": lambda: notify.tell_recovered(site),
        "turn": lambda: desired_state.read(site.state),
        "night": lambda: night.run(site),
    }


@pytest.fixture
def filled(site: StandInSite) -> StandInSite:
    site.settings.values["CHAT_PORT"] = "9"
    day.start(site)
    fill(site)
    return site


def put_back(copy: Path, site: StandInSite) -> None:
    for kept, place in ((copy / "state", site.state), (copy / "ledger.json", site.ledger.path)):
        if kept.is_dir():
            shutil.rmtree(place)
            shutil.copytree(kept, place, symlinks=True)
        else:
            shutil.copy2(kept, place)


@pytest.mark.parametrize(
    "damage",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.long) for name in DAMAGE],
)
def test_no_verb_ends_in_a_traceback_for_a_damaged_file(
    damage: str,
    filled: StandInSite,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(filled.state, copy / "state", symlinks=True)
    shutil.copy2(filled.ledger.path, copy / "ledger.json")
    paths = [
        path for path in sorted(filled.state.rglob("*")) if path.is_file() and not path.is_symlink()
    ]
    wrong = []
    for path in paths:
        put_back(copy, filled)
        damaged = DAMAGE[damage](path.read_bytes())
        for name, verb in verbs(filled, monkeypatch).items():
            if path.parent.exists():  # prune may have taken it away
                path.write_bytes(damaged)
            try:
                verb()
            except GlueError as error:
                assert error.what and error.saw and error.do
            except Exception as error:
                wrong.append(
                    f"{path.relative_to(filled.state)}, {name}: {type(error).__name__}: {error}"
                )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("damage", ["empty", "cut", "NULs"])
def test_the_doctor_names_every_damaged_table(damage: str, filled: StandInSite) -> None:
    tables = {path for pattern in files.OWN_JSON for path in filled.state.glob(pattern)}
    assert list(files.damaged_files(filled.state)) == [] and len(tables) > 15
    for path in tables:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert set(files.damaged_files(filled.state)) == tables
