"""Real jobs in the trainer's image: what they can read, reach and write, and what remains."""

import time
from pathlib import Path

from glue.clients import jobs
from glue.clients.compose import NIGHT
from glue.clients.jobs import Job
from glue.clients.site import Site
from glue.operations import dataset
from glue.serving import adapters

LONGEST_START_SECONDS = 60  # one takes a second or two on an idle machine


def test_a_job_starts_in_seconds_and_leaves_no_container(site: Site) -> None:
    started = time.monotonic()
    assert jobs.run(site, Job("learning.dataset.forget", {"names": []})) == {"removed": {}}
    print(f"an empty job took {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started < LONGEST_START_SECONDS
    assert site.stacks.container(NIGHT, "learning") is None


def test_what_a_job_writes_is_private_and_belongs_to_the_state_folder_s_owner(site: Site) -> None:
    found = dataset.build(site)
    assert found["examples"] > 0
    for path in Path(found["folder"]).iterdir():
        status = path.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (site.state.stat().st_uid, 0o600), path


def test_the_served_adapter_passes_the_check_and_an_empty_folder_does_not(
    site: Site, tmp_path: Path
) -> None:
    current = site.store.current()
    assert current is not None and adapters.problems(site, site.store.folder / current) == []
    tmp_path.chmod(0o755)
    (words,) = adapters.problems(site, tmp_path)
    assert words.startswith(f"{tmp_path} is not an adapter folder")
