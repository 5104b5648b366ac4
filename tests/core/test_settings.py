import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from glue.core import recipes, settings
from glue.core.errors import Misconfigured
from glue.core.setting_keys import OF_THE_MODEL, Keys

REPOSITORY = settings.REPOSITORY
SMALL = ("rehearsal", "demo")


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("GLUE_")]:
        monkeypatch.delenv(key)


def copy_env(tmp_path: Path) -> Path:
    (tmp_path / "env").mkdir(parents=True)
    for name in ("images.env", "rehearsal.env", "demo.env", "spark.env"):
        (tmp_path / "env" / name).write_text((REPOSITORY / "env" / name).read_text())
    shutil.copytree(REPOSITORY / "env" / "models", tmp_path / "env" / "models")
    return tmp_path


@pytest.mark.parametrize("profile", settings.PROFILES)
def test_every_profile_is_complete_and_no_secret_has_a_default(
    profile: str, tmp_path: Path
) -> None:
    loaded = settings.load(profile, copy_env(tmp_path))
    assert loaded["PROJECT"]
    assert not set(settings.SECRETS) & loaded.values.keys()


def test_the_demonstration_and_the_tests_can_be_on_one_machine(tmp_path: Path) -> None:
    """demo.env changes some of rehearsal.env; what names containers, folders and ports is of its
    own."""
    tests, demo = (settings.load(profile, copy_env(tmp_path / profile)) for profile in SMALL)
    apart = ("PROJECT", "STATE_DIR", "CHAT_PORT", "HTTPS_PORT", "SERVED_MODEL", "RECIPE")
    assert all(tests[key] != demo[key] for key in apart)
    assert tests.model_image != demo.model_image
    assert (demo["NIGHT_AT"], demo.sources["NIGHT_AT"]) == (tests["NIGHT_AT"], "env/rehearsal.env")


def test_site_env_overrides_the_profile_and_the_source_is_known(tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text("CHAT_PORT=3100\n")
    loaded = settings.load("rehearsal", home)
    assert (loaded["CHAT_PORT"], loaded.sources["CHAT_PORT"]) == ("3100", "env/site.env")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "NIGHT_AT=25:00",
            "Invalid value for NIGHT_AT in env/site.env: '25:00'. Expected a time such as 07:00.",
        ),
        (
            "CHAT_PORT=65536",
            "Invalid value for CHAT_PORT in env/site.env: '65536'."
            " Expected a whole number from 1 to 65535.",
        ),
        ("MAX_SEQUENCES=1_0", "Expected a whole number from 1."),
        ("CHUNK_OVERLAP=-1", "Expected a whole number from 0."),
        ("CHUNK_OVERLAP=²", "Expected a whole number from 0."),
        ("TEMPERATURE=.3", "Expected a number from 0, such as 0.3."),
        ("MAX_LORA_RANK=24", "Expected 8, 16, 32, 64, 128, 256 or 512."),
        ("TEAM_NAME=", "Expected text that is not empty."),
        ("TITLE_GENERATION=yes", "Expected true or false."),
        ("NIGHT=both", "Expected swap or beside."),
        ("NIGHT_DAYS=Mon,Fry", "Expected days such as Mon,Tue,Wed,Thu,Fri, or nothing"),
        ("VLLM_IMAGE=vllm/vllm-openai:latest", "Expected an image with a digest, or a tag but"),
        ("VLLM_IMAGE=vllm/vllm-openai", "Expected an image with a digest, or a tag but latest."),
        ("RAG_TEMPLATE=no place for it", "Expected text that contains {{CONTEXT}}, and no other"),
        ("RAG_TEMPLATE={{CONTEXT}} for {{QUERY}}", "Expected text that contains {{CONTEXT}}, and"),
        ("SYSTEM_PROMPT=It is {{CURRENT_DATE}}.", "Expected text without a {{word}}, which"),
        ("CHAT_ADDRESS=localhost", "Expected an IP address such as 127.0.0.1 or 0.0.0.0."),
        ("HTTPS_NAMES=a\u0378.example", "Expected names such as spark.local,10.0.0.5."),
        ("NOTIFY_WEBHOOK=ftp://host", "NOTIFY_WEBHOOK in env/site.env: (hidden). Expected an http"),
        ("CHAT_PROT=3000", "Unknown key in env/site.env: CHAT_PROT. Did you mean CHAT_PORT?"),
        ("ZZZ=1", "Unknown key in env/site.env: ZZZ. Known keys: BACKUP_AT, "),
        (
            "just words",
            "env/site.env, line 1: 'just words'."
            ' Expected KEY=VALUE, or KEY="VALUE" where the value has spaces.',
        ),
    ],
)
def test_a_bad_line_is_one_line_with_key_file_value_and_what_is_expected(
    line: str, message: str, tmp_path: Path
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(line + "\n")
    with pytest.raises(Misconfigured) as error:
        settings.load("rehearsal", home)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_old_key_is_refused_with_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RENAMED", {"OFFICE_PORT": "CHAT_PORT"})
    with pytest.raises(Misconfigured, match=r"OFFICE_PORT. It is now CHAT_PORT."):
        settings.check({"OFFICE_PORT": "3000"}, "env/site.env")


@pytest.mark.parametrize("key", [key for key in OF_THE_MODEL if key != "MODEL_FLAGS"])
def test_a_key_of_an_earlier_version_overrides_the_model_s_file(key: str, tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    before = settings.load("spark", home)
    (home / "env" / "site.env").write_text(f"{key}=0123abc\n")
    after = settings.load("spark", home)
    assert after.values == before.values | {key: "0123abc"}
    assert after.sources[key] == "env/site.env"
    assert before[key] == getattr(before.model, OF_THE_MODEL[key])


@pytest.mark.parametrize("profile", SMALL)
def test_the_model_of_a_spark_is_not_that_of_its_demonstration(
    profile: str, tmp_path: Path
) -> None:
    """One site.env serves all profiles, and a Spark's models are of 20 GB and more."""
    home = copy_env(tmp_path)
    before = settings.load(profile, home).values
    for key, value in {"SERVED_MODEL": "maker/large", "MODEL": "super"}.items():
        (home / "env" / "site.env").write_text(f"{key}={value}\n")
        assert settings.load(profile, home).values == before
        assert settings.load("spark", home)[key] == value


@pytest.mark.parametrize(
    ("old", "flags"),
    [
        ("--tool-call-parser=hermes", "--tool-call-parser=hermes --kv-cache-dtype=fp8"),
        (
            "--tool-call-parser=x --kv-cache-dtype=auto",
            "--tool-call-parser=x --kv-cache-dtype=auto",
        ),
    ],
)
def test_the_flags_of_an_earlier_version_override_the_parsers_and_keep_the_cache(
    old: str, flags: str, tmp_path: Path
) -> None:
    """The cache's type was no part of them then."""
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(f'MODEL_FLAGS="{old}"\n')
    found = settings.load("spark", home)
    assert (found["MODEL_FLAGS"], found.sources["MODEL_FLAGS"]) == (flags, "env/site.env")


@pytest.mark.parametrize("key", OF_THE_MODEL)
def test_a_key_of_an_earlier_version_is_refused_beside_model(key: str, tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(f"MODEL=lightning\n{key}=0123abc\n")
    with pytest.raises(Misconfigured) as error:
        settings.load("spark", home)
    assert (
        f"{key} in env/site.env is an old key: MODEL=lightning is set. Remove {key}. If you need"
        f" another value, set {OF_THE_MODEL[key]} in a copy of env/models/lightning.toml"
    ) in str(error.value)


def test_a_bad_value_is_refused_even_where_a_later_layer_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text("CHAT_PORT=ninety\n")
    monkeypatch.setenv("GLUE_CHAT_PORT", "3100")
    with pytest.raises(Misconfigured, match=r"CHAT_PORT in env/site.env"):
        settings.load("rehearsal", home)


def test_the_environment_wins_over_the_site_and_its_unknown_keys_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text("CHAT_PORT=3100\n")
    monkeypatch.setenv("GLUE_CHAT_PORT", "3200")
    assert settings.load("rehearsal", home)["CHAT_PORT"] == "3200"
    monkeypatch.setenv("GLUE_CHAT_PROT", "3300")
    with pytest.raises(Misconfigured, match=r"CHAT_PROT\. Did you mean CHAT_PORT\?"):
        settings.load("rehearsal", home)


@pytest.mark.parametrize("key", [k for k, f in Keys.model_fields.items() if f.is_required()])
def test_a_key_that_is_missing_is_named_with_what_it_takes(key: str, tmp_path: Path) -> None:
    home = copy_env(tmp_path)
    for name in ("images.env", "rehearsal.env"):
        path = home / "env" / name
        path.write_text(re.sub(rf"^{key}=", f"#{key}=", path.read_text(), flags=re.MULTILINE))
    message = f"Missing key in .*: {key}. Expected {Keys.model_fields[key].description}"
    with pytest.raises(Misconfigured, match=re.escape(message).replace(r"\.\*", ".*")):
        settings.load("rehearsal", home)


def test_no_nights_are_a_value_of_night_days() -> None:
    settings.check({"NIGHT_DAYS": ""}, "env/site.env")


@pytest.mark.parametrize("key", [key for key in Keys.model_fields if key != "NIGHT_DAYS"])
def test_every_setting_has_words_for_its_values(key: str) -> None:
    with pytest.raises(Misconfigured, match=f"Invalid value for {key} in env/site.env") as error:
        settings.check({key: ""}, "env/site.env")
    assert error.value.do == f"Expected {Keys.model_fields[key].description}."


def test_generated_keys_are_hidden() -> None:
    secrets = {"MODEL_API_KEY", "WEBUI_SECRET_KEY", "WEBUI_ADMIN_PASSWORD"}
    assert set(settings.SECRETS) == secrets
    assert {"SMTP_PASSWORD", "HF_TOKEN", "RESTIC_REPOSITORY"} | secrets < set(settings.HIDDEN)


def test_a_secret_is_not_shown_in_an_error() -> None:
    with pytest.raises(Misconfigured) as error:
        settings.check({"MODEL_API_KEY": "short"}, "secrets.env")  # pragma: allowlist secret
    assert "short" not in str(error.value) and "at least 16 characters" in error.value.do


@pytest.mark.parametrize("line", ["NOTIFY_EMAIL=it@example.org", "SMTP_PASSWORD=letters"])
def test_a_setting_that_needs_another_is_refused_alone_and_its_value_is_not_shown(
    line: str, tmp_path: Path
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(line + "\n")
    with pytest.raises(Misconfigured) as error:
        settings.load("rehearsal", home)
    key, value = line.split("=")
    assert f" in env/site.env: {key} needs it. Set it, or remove {key}." in str(error.value)
    assert error.value.what.startswith("Missing key SMTP_") and value not in str(error.value)


def test_every_recipe_in_the_repository_is_valid() -> None:
    names = [path.stem for path in (REPOSITORY / "env" / "recipes").glob("*.toml")]
    assert {"team", "rehearsal"} <= {
        recipes.load(REPOSITORY / "env" / "recipes", name).name for name in names
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [("team", False), ("team-merged", True), ("free", True), ("case-study", False)],
)
def test_a_recipe_that_serves_merged_on_its_own_base_trains_so(name: str, expected: bool) -> None:
    assert recipes.load(REPOSITORY / "env" / "recipes", name).trains_merged is expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rank = 16", "rank = 640", "rank in {}: 640. Expected a whole number from 1 to 512."),
        ("rank = 16", "", "Missing key in {}: rank. Expected a whole number from 1 to 512."),
        ("rank = 16", "rnak = 16", "Unknown key in {}: rnak. Did you mean rank?"),
        ("rank = 16", 'rank = 16\nname = "other"', "name in {}: 'other'. Remove this key."),
        ("rank = 16", "rank = ", "a file is not TOML"),
        ("steps = 100", "steps = true", "steps in {}: True. Expected a whole number from 1 to"),
        ("steps = 100", "steps = 100.0", "steps in {}: 100.0. Expected a whole number from 1 to"),
        ("least_gain = 0.05", "least_gain = nan", "least_gain in {}: nan. Expected a number from"),
        ("target_modules = [", "target_modules = [1, ", "Expected a list of names."),
        ("layers = []", "layers = [-1]", "layers in {}: [-1]. Expected a list of layer numbers"),
        ('serve = "adapter"', 'serve = "both"', "serve in {}: 'both'. Expected adapter or merged."),
        (
            "rank = 16",
            "rank = 16\nsearch = { rank = [0] }",
            "search in {}: {{'rank': [0]}}. Expected a",
        ),
        (
            "rank = 16",
            "rank = 16\nsearch = { rang = [8] }",
            "search in {}: {{'rang': [8]}}. Expected a",
        ),
        (
            "rank = 16",
            'rank = 16\npreferences = "kto"',
            "preferences in {}: 'kto'. Expected none or",
        ),
        (
            "tokens_per_step = 2048",
            "tokens_per_step = 511",
            "tokens_per_step in {}: 511, and longest_tokens is 512. Raise it",
        ),
    ],
)
def test_a_bad_recipe_names_file_key_value_and_what_is_expected(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    good = (REPOSITORY / "env" / "recipes" / "rehearsal.toml").read_text()
    assert old in good
    (tmp_path / "bad.toml").write_text(good.replace(old, new, 1))
    with pytest.raises(Misconfigured) as error:
        recipes.load(tmp_path, "bad")
    assert message.format(tmp_path / "bad.toml") in str(error.value)


def test_the_unsloth_engine_cannot_train_on_the_weights_that_serve(tmp_path: Path) -> None:
    text = (REPOSITORY / "env" / "recipes" / "case-study.toml").read_text()
    (tmp_path / "old.toml").write_text(text.replace('base = "bf16"\n', ""))
    assert recipes.load(tmp_path, "old").base == "bf16", "a copy from before there was a base"
    (tmp_path / "bad.toml").write_text(text.replace('base = "bf16"', 'base = "served"'))
    with pytest.raises(Misconfigured, match=r"base in .*: 'served', and engine is 'unsloth'"):
        recipes.load(tmp_path, "bad")


SEARCH = "search = { learning_rate = [1e-4, 5e-4], rank = [8, 32], most_candidates = 4 }\n"


def test_a_search_is_read_with_its_defaults_and_reserves_for_its_largest_rank(
    tmp_path: Path,
) -> None:
    text = (REPOSITORY / "env" / "recipes" / "rehearsal.toml").read_text()
    (tmp_path / "wide.toml").write_text(SEARCH + text)
    found = recipes.load(tmp_path, "wide")
    assert found.search == recipes.Search([1e-4, 5e-4], [], [8, 32], 4, 0.5)
    assert (found.rank, found.largest_rank, found.preferences) == (16, 32, "none")


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("case-study", "", "", "engine is 'unsloth'"),
        ("team", 'begin_from = "base"', 'begin_from = "current"', "and begin_from is 'current'"),
    ],
)
def test_a_search_that_cannot_run_is_refused(
    name: str, old: str, new: str, words: str, tmp_path: Path
) -> None:
    text = (REPOSITORY / "env" / "recipes" / f"{name}.toml").read_text()
    (tmp_path / "bad.toml").write_text(SEARCH + (text.replace(old, new) if old else text))
    with pytest.raises(Misconfigured, match=f"search in .*{words}"):
        recipes.load(tmp_path, "bad")


def test_the_unsloth_engine_cannot_continue_an_adapter(tmp_path: Path) -> None:
    text = (REPOSITORY / "env" / "recipes" / "case-study.toml").read_text()
    (tmp_path / "bad.toml").write_text(
        text.replace('begin_from = "base"', 'begin_from = "current"')
    )
    with pytest.raises(
        Misconfigured, match=r"begin_from in .*: 'current', and engine is 'unsloth'"
    ):
        recipes.load(tmp_path, "bad")


def test_the_memory_settings_of_a_spark_fit_each_other_and_the_machine() -> None:
    """Beside a step: 5 GB for the trainer itself, the machine's reserve, and 3 % by which a step's
    plan may be wrong."""
    spark = settings.load("spark")
    step, reserve, free = map(
        spark.number, ("TRAINING_MEMORY_BYTES", "MEMORY_RESERVE_BYTES", "NIGHT_FREE_BYTES")
    )
    more = spark.night_bytes("NIGHT_FREE_BYTES", "bf16") - free
    assert more == spark.night_bytes("TRAINING_MEMORY_BYTES", "bf16") - step > 0
    for extra in (0, more):
        assert 1.03 * (step + extra) + 5e9 + reserve <= free + extra <= 101.3 * 2**30, (
            "what owners report as free after a start"
        )
    assert reserve > 8.7 * 2**30
    plain = replace(spark, values=spark.values | {"TRAINED_MODEL": spark["SERVED_MODEL"]})
    assert plain.night_bytes("NIGHT_FREE_BYTES", "bf16") == free


@pytest.mark.parametrize(
    ("lines", "step", "free"),
    [
        ("", 85, 105),
        ("TRAINING_MEMORY_BYTES=60000000000", 60, 80),
        ("NIGHT_FREE_BYTES=90000000000", 85, 90),
        ("TRAINING_MEMORY_BYTES=60000000000\nNIGHT_FREE_BYTES=90000000000", 60, 90),
    ],
)
def test_a_night_on_bf16_gets_more_memory_only_where_the_site_sets_none(
    lines: str, step: int, free: int, tmp_path: Path
) -> None:
    home = copy_env(tmp_path)
    (home / "env" / "site.env").write_text(lines + "\n")
    spark = settings.load("spark", home)
    keys = ("TRAINING_MEMORY_BYTES", "NIGHT_FREE_BYTES")
    assert [spark.night_bytes(key, "bf16") for key in keys] == [step * 10**9, free * 10**9]


def test_one_model_is_needed_unless_the_recipe_trains_bf16() -> None:
    spark, rehearsal = settings.load("spark"), settings.load("rehearsal")
    served, bf16 = spark["SERVED_MODEL"], spark["TRAINED_MODEL"]
    assert list(spark.hub_models("served")) == [served]
    assert list(spark.hub_models("bf16")) == [served, bf16]
    assert (spark.base_model("served"), spark.base_model("bf16")) == (served, bf16)
    assert rehearsal.hub_models("bf16") == {}
    assert rehearsal.base_model("served") == f"{rehearsal['SERVED_MODEL']}/nvfp4"


def test_every_recipe_of_the_grouped_engine_trains_the_weights_that_serve() -> None:
    folder = REPOSITORY / "env" / "recipes"
    for path in folder.glob("*.toml"):
        recipe = recipes.load(folder, path.stem)
        assert (recipe.base, recipe.engine) in (("served", "grouped"), ("bf16", "unsloth"))


@pytest.mark.parametrize("name", ["team", "lean", "free", "plain"])
def test_the_page_s_sed_changes_the_base_of_every_recipe_for_a_spark(
    name: str, tmp_path: Path
) -> None:
    text = (REPOSITORY / "env" / "recipes" / f"{name}.toml").read_text()
    changed = re.sub('(?m)^base = "served"', 'base = "bf16"', text)
    (tmp_path / "bf16.toml").write_text(changed)
    assert recipes.load(tmp_path, "bf16").base == "bf16"
