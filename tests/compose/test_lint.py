"""Shell scripts pass shellcheck, no file contains a secret, and no locked package has a known
vulnerability."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glue.core.settings import REPOSITORY

BIN = Path(sys.executable).parent


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    return [REPOSITORY / name for name in listed if (REPOSITORY / name).is_file()]


def shell_scripts() -> list[Path]:
    return [
        path
        for path in tracked()
        if path.suffix not in (".py", ".md")
        and path.read_bytes()[:20].startswith(b"#!")
        and b"sh" in path.read_bytes()[:20]
    ]


@pytest.mark.parametrize(
    "script", shell_scripts(), ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_shellcheck_passes(script: Path) -> None:
    done = subprocess.run(
        [BIN / "shellcheck", "--severity=warning", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def holds_a_secret(files: list[Path]) -> str:
    done = subprocess.run(
        [BIN / "detect-secrets-hook", *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode else ""


def test_no_file_holds_a_secret() -> None:
    assert len(shell_scripts()) >= 6
    made_by_programs = (
        "requirements.txt",
        "requirements-bench.txt",
        "requirements-dev.txt",
        "constraints.txt",
    )  # hashes, and slow to look through
    assert (
        holds_a_secret(
            [
                path
                for path in tracked()
                if path.name not in made_by_programs and path.suffix != ".json"
            ]
        )
        == ""
    )


def test_a_secret_in_a_file_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text('password = "' + "hunter" * 3 + '"\n')
    assert "Secret Keyword" in holds_a_secret([file])


def test_no_locked_package_has_a_known_vulnerability() -> None:
    """Skipped with a message if the advisories cannot be reached: pip-audit then reports every
    package as unknown."""
    command = [
        str(BIN / "pip-audit"),
        "--requirement",
        "requirements-bench.txt",
        "--disable-pip",
        "--no-deps",
        "--format",
        "json",
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    found = json.loads(done.stdout)["dependencies"] if done.stdout.startswith("{") else []
    audited = [row for row in found if "vulns" in row]
    if not audited:
        words = f"all {len(found)} packages are unknown" if found else done.stderr.strip()[-200:]
        pytest.skip(f"no advisories can be reached from here: {words}")
    assert [
        (row["name"], row["version"], hole["id"]) for row in audited for hole in row["vulns"]
    ] == []
