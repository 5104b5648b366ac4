"""Every image by its digest: what was tried is what runs, wherever its tag points later."""

from __future__ import annotations

import re
from pathlib import Path

from glue import files
from glue.settings import HOME
from glue.stacks import Stacks

BUILT_HERE = "dual-use/"
TAG_ONLY = re.compile(rf"^(\w+_IMAGE=)(?!{BUILT_HERE})([^@\s]+)$", re.MULTILINE)


def pin(stacks: Stacks, path: Path = HOME / "env" / "images.env") -> list[str]:
    """Adds @sha256:... to every reference in the file that has none, and returns those. The tag stays, for people.

    Images built on this machine are left alone: no registry knows them. Raises PreconditionFailed, with nothing written.
    """
    text = path.read_text(encoding="utf-8")
    references = sorted({match[2] for match in TAG_ONLY.finditer(text)})
    pinned = {reference: f"{reference}@{stacks.digest(reference)}" for reference in references}
    if pinned:
        files.write(path, TAG_ONLY.sub(lambda match: match[1] + pinned[match[2]], text))
    return list(pinned.values())
