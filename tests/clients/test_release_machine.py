"""Promote, roll back, prune, publish and judge in any order, with a crash at any file operation:
what serves is never lost.

The crash is a stub: the file operation raises and no later one happens, as after a kill or a power
cut.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from glue.clients.adapter_store import AdapterName, AdapterStore
from glue.core.errors import PreconditionFailed

OPERATIONS: tuple[tuple[Any, str], ...] = (
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "symlink_to"),
    (Path, "mkdir"),
    (shutil, "copyfile"),
    (shutil, "rmtree"),
    (os, "fsync"),
    (os, "open"),
    (os, "unlink"),
    (os, "rmdir"),
)
# shrinking a failure takes minutes of a machine that others share
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
LONGEST = 40  # no verb makes more file operations than this


class Crash(BaseException):
    """Not an Exception, so that no handler catches it."""


@contextmanager
def crash_at(number: int) -> Iterator[None]:
    """Stops the file operation with this number and all later ones."""
    left = number

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            return real(*arguments, **named)

        return operation

    with ExitStack() as patched:
        for home, name in OPERATIONS:
            patched.enter_context(mock.patch.object(home, name, new=counted(getattr(home, name))))
        yield


CRASH = st.one_of(st.none(), st.integers(0, LONGEST))


class Machine(RuleBasedStateMachine):
    """What glue does to the files of the releases, as glue does it: one at a time, under its
    lock."""

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.store = AdapterStore(self.home / "adapters")
        self.store.folder.mkdir()
        self.count = 0
        self.serves: set[AdapterName] = {
            None
        }  # what may serve now: two of them after a crash in between
        self.learned: set[str] = set()
        self.promoted: list[str] = []

    def act(self, what: Callable[[], None], crash: int | None) -> bool:
        """Whether it finished."""
        try:
            if crash is None:
                what()
            else:
                with crash_at(crash):
                    what()
        except Crash:
            return False
        return True

    def choose(self, number: int) -> str | None:
        names = self.store.names()
        return names[number % len(names)] if names else None

    # ------------------------------------------------------------------ what glue does

    @rule(crash=CRASH)
    def publish(self, crash: int | None) -> None:
        self.count += 1
        source = self.home / f"trained-{self.count}"
        source.mkdir()
        (source / "adapter_config.json").write_text("{}")
        (source / "adapter_model.safetensors").write_text(str(self.count))
        made = self.act(
            lambda: void(self.store.publish(source, {"examples": [str(self.count)], "night": "n"})),
            crash,
        )
        if made or any(
            str(self.count) in self.store.manifest(name)["examples"] for name in self.store.names()
        ):
            self.learned.add(str(self.count))

    @rule(number=st.integers(0, 99), good=st.booleans(), crash=CRASH)
    def judge(self, number: int, good: bool, crash: int | None) -> None:
        name = self.choose(number)
        if name:
            self.act(lambda: self.store.note_verdict(name, {"promote": good}), crash)

    @rule(number=st.integers(0, 99), base=st.booleans(), crash=CRASH)
    def promote(self, number: int, base: bool, crash: int | None) -> None:
        release = None if base else self.choose(number)
        before = self.store.current()
        done = self.act(lambda: self.store.advance(release), crash)
        self.serves = {release} if done else {before, release}

    @rule(crash=CRASH)
    def roll_back(self, crash: int | None) -> None:
        current, history = self.store.current(), self.store.served()
        try:
            before = self.store.before()
        except PreconditionFailed:
            return
        assert before[-1] != current and before[-1] in history
        done = self.act(lambda: self.store.retreat(before), crash)
        self.serves = {before[-1]} if done else {current, before[-1]}
        if self.store.current() == before[-1]:
            assert self.store.served() == before, (
                "another rollback would go forward to what was rolled back"
            )

    @rule(keep=st.integers(1, 3), crash=CRASH)
    def prune(self, keep: int, crash: int | None) -> None:
        before = set(self.store.names())
        kept = {self.store.current()}
        with suppress(PreconditionFailed):
            kept.add(self.store.before()[-1])
        good = [
            name
            for name in sorted(before)
            if self.store.manifest(name).get("verdict", {}).get("promote")
        ]
        self.act(lambda: void(self.store.prune(keep)), crash)
        assert (kept - {None}) | set(good[-keep:]) | set(sorted(before)[-1:]) <= set(
            self.store.names()
        )

    # ------------------------------------------------------------------ what is always true

    @invariant()
    def what_serves_is_there_and_whole(self) -> None:
        current = self.store.current()
        assert current in self.serves
        assert (current is None) == (
            not (self.store.folder / "current" / "adapter_config.json").exists()
        ), "as vLLM's start"
        if current is not None:
            self.store.verify(current)

    @invariant()
    def every_release_that_is_listed_is_whole(self) -> None:
        for name in self.store.names():
            self.store.verify(name)

    @invariant()
    def the_history_ends_with_what_serves_and_can_be_read(self) -> None:
        assert self.store.served()[-1] == self.store.current()

    @invariant()
    def nothing_that_was_learned_is_forgotten(self) -> None:
        assert self.learned <= {
            example for manifest in self.store.manifests() for example in manifest["examples"]
        }

    def teardown(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def void(_: object) -> None:
    return None


class TestMachine(Machine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=40,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=NO_SHRINKING,
    )


def test_the_state_machine_detects_a_crash() -> None:
    """Otherwise the state machine above would prove nothing."""
    home = Path(tempfile.mkdtemp())
    store = AdapterStore(home)
    try:
        with suppress(Crash), crash_at(0):
            store.remember([None])
        assert not (home / "served.json").exists()
        with crash_at(LONGEST):
            store.remember([None])
        assert json.loads((home / "served.json").read_text()) == [None]
    finally:
        shutil.rmtree(home)
