"""Two processes (pytest -n 2): one runs the tests that share the running stacks, the other runs
all others."""

from typing import Any

import pytest

STACKS = "tests/e2e/"
USE_THE_TRAINER = (  # a night would take its containers for a trainer that was left behind
    "tests/compose/test_night_image.py"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the stacks' tests first, because they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(STACKS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By module, and all of tests/e2e as one.

    Not --dist loadgroup: xdist 3.8 marks a group in Item._nodeid, which pytest 9.2 no longer reads.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByStacks(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return (
                STACKS
                if nodeid.startswith((STACKS, USE_THE_TRAINER))
                else super()._split_scope(nodeid)
            )

    return ByStacks(config, log)
