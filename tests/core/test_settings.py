import os
from pathlib import Path

import pytest

from glue.core import recipes, settings
from glue.core.errors import Misconfigured

HOME = settings.HOME


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("GLUE_")]:
        monkeypatch.delenv(key)


def copy_env(tmp_path: Path) -> Path:
    (tmp_path / "env").mkdir()
    for name in ("images.env", "rehearsal.env", "spark.env"):
        (tmp_path / "env" / name).write_text((HOME / "env" / name).read_text())
    return tmp_path


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_both_profiles_are_complete_and_no_secret_has_a_default(
    profile: str, tmp_path: Path
) -> None:
    loaded = settings.load(profile, copy_env(tmp_path))
    assert loaded["PROJECT"]
    assert not set(settings.SECRETS) & loaded.values.keys()


def test_the_site_wins_and_the_source_is_known(tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text("CHAT_PORT=3100\n")
    loaded = settings.load("rehearsal", home)
    assert (loaded["CHAT_PORT"], loaded.sources["CHAT_PORT"]) == ("3100", "env/site.env")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("CHAT_PORT=ninety", ["env/site.env", "CHAT_PORT", "ninety", "1 to 65535"]),
        ("CHAT_PROT=3000", ["env/site.env", "CHAT_PROT", "CHAT_PORT"]),
        ("just words", ["site.env", "line 1", "just words"]),
        ("VLLM_IMAGE=vllm/vllm-openai:latest", ["VLLM_IMAGE", "never :latest"]),
        ("RAG_TEMPLATE=no place for it", ["RAG_TEMPLATE", "{{CONTEXT}}"]),
        ("CHAT_ADDRESS=localhost", ["CHAT_ADDRESS", "127.0.0.1"]),
    ],
)
def test_a_bad_line_is_named_with_what_is_allowed(
    line: str, words: list[str], tmp_path: Path
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(line + "\n")
    with pytest.raises(Misconfigured) as error:
        settings.load("rehearsal", home)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_secret_is_not_shown_in_an_error() -> None:
    with pytest.raises(Misconfigured) as error:
        settings.check("MODEL_API_KEY", "short", "secrets.env")
    assert "short" not in error.value.saw


@pytest.mark.parametrize("line", ["NOTIFY_EMAIL=it@example.org", "SMTP_PASSWORD=letters"])
def test_half_of_a_pair_is_refused_and_its_value_is_not_shown(line: str, tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(line + "\n")
    with pytest.raises(Misconfigured, match=line.partition("=")[0]) as error:
        settings.load("rehearsal", home)
    assert "SMTP_" in error.value.do and line.partition("=")[2] not in str(error.value)


def test_where_backups_go_is_hidden_for_it_may_hold_a_password() -> None:
    assert "RESTIC_REPOSITORY" in settings.HIDDEN and "RESTIC_REPOSITORY" in settings.OPTIONAL


def test_every_recipe_in_the_repository_is_good() -> None:
    names = [path.stem for path in (HOME / "env" / "recipes").glob("*.toml")]
    assert {"team", "rehearsal"} <= {
        recipes.load(HOME / "env" / "recipes", name).name for name in names
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rank = 16", "rank = 640", ["bad.toml", "rank = 640", "1 to 512"]),
        ("rank = 16", "", ["bad.toml", "no rank"]),
        ("rank = 16", "rank = 16\nrnak = 2", ["bad.toml", "rnak = 2", "allowed"]),
        ("rank = 16", "rank = ", ["bad.toml", "not TOML"]),
        ("steps = 80", "steps = true", ["steps = True", "whole number"]),
        (
            "tokens_per_step = 2048",
            "tokens_per_step = 511",
            ["tokens_per_step = 511", "longest_tokens = 512", "raise"],
        ),
    ],
)
def test_a_bad_recipe_names_file_key_value_and_what_is_allowed(
    old: str, new: str, words: list[str], tmp_path: Path
) -> None:
    good = (HOME / "env" / "recipes" / "rehearsal.toml").read_text()
    (tmp_path / "bad.toml").write_text(good.replace(old, new, 1))
    with pytest.raises(Misconfigured) as error:
        recipes.load(tmp_path, "bad")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_unsloth_engine_cannot_go_on_with_an_adapter(tmp_path: Path) -> None:
    text = (HOME / "env" / "recipes" / "case-study.toml").read_text()
    (tmp_path / "bad.toml").write_text(
        text.replace('begin_from = "base"', 'begin_from = "current"')
    )
    with pytest.raises(Misconfigured, match="do not fit each other") as error:
        recipes.load(tmp_path, "bad")
    assert "begin_from = 'current' and engine = 'unsloth'" in error.value.saw


def test_the_memory_settings_of_a_spark_fit_each_other_and_the_machine() -> None:
    """Beside a step: 5 GB for the trainer itself, the machine's reserve, and 3 % by which a step's
    plan may be wrong."""
    spark = settings.load("spark")
    step, reserve, free = map(
        spark.number, ("TRAINING_MEMORY_BYTES", "MEMORY_RESERVE_BYTES", "NIGHT_FREE_BYTES")
    )
    assert 1.03 * step + 5e9 + reserve <= free <= 101.3 * 2**30, (
        "what owners report as free after a start"
    )
    assert reserve > 8.7 * 2**30
