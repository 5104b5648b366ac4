"""Every setting: what its value may be, whether it may be missing, and who may see it.

Defaults stand in env/<profile>.env, where people read them; one that is UNSET needs none.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from glue.core import addresses, schema

T = TypeVar("T")
UNSET: Any = None
PROFILES = ("spark", "rehearsal", "demo")
BELOW = {"demo": ("rehearsal",)}  # a profile, and the one whose settings it changes
Hidden = Annotated[T, "hidden"]  # never shown
Personal = Annotated[T, "personal"]  # not in a support bundle
Generated = Annotated[T, "hidden", "generated"]  # by make setup


def like(pattern: str, expected: str) -> Any:
    return Field(pattern=rf"(?s)\A(?:{pattern})\Z", description=expected)


# not by pydantic, which also takes 1_000 and 1.0; Compose does not
DIGITS = BeforeValidator(lambda text: int(text) if text.isascii() and text.isdigit() else text)
DAY = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
Profile = Annotated[str, schema.one_of(*PROFILES)]
Text = Annotated[str, like(r".*\S.*", "text that is not empty")]
Name = Annotated[str, like("[a-z][a-z0-9-]*", "a name of lower-case letters, digits and -")]
Whole = Annotated[int, DIGITS, schema.whole(0)]
Positive = Annotated[int, DIGITS, schema.whole(1)]
Port = Annotated[int, DIGITS, schema.whole(1, 65535)]
Number = Annotated[str, like(r"[0-9]+(\.[0-9]+)?", "a number from 0, such as 0.3")]
Address = Annotated[
    str, AfterValidator(addresses.checked), like(".+", "an IP address such as 127.0.0.1 or 0.0.0.0")
]
Names = Annotated[
    str, AfterValidator(addresses.checked_names), like(".+", "names such as spark.local,10.0.0.5")
]
Time = Annotated[str, like(r"([01]\d|2[0-3]):[0-5]\d", "a time such as 07:00")]
Days = Annotated[
    str, like(f"({DAY}(,{DAY})*)?", "days such as Mon,Tue,Wed,Thu,Fri, or nothing for no nights")
]
Email = Annotated[str, like(r"[^@\s]+@[^@\s]+", "an e-mail address")]
Url = Annotated[str, like(r"https?://\S+", "an http or https address")]
Server = Annotated[str, like(r"[\w.\-]+(:[0-9]+)?", "a host, or host:port")]
Country = Annotated[str, like("[A-Z]{2}", "two capital letters for a country, such as US or DE")]
# what vLLM's --max-lora-rank takes
Rank = Annotated[str, like("8|16|32|64|128|256|512", "8, 16, 32, 64, 128, 256 or 512")]
Switch = Annotated[str, schema.one_of("true", "false")]
# Open WebUI replaces {{USER_NAME}}, {{CURRENT_DATE}} and the like, and a rating does not hold with
# what (https://github.com/open-webui/open-webui/issues/10570): nothing rated could be learned
REPLACED = r"\{\{(?!CONTEXT\}\})\w+\}\}|\[query\]|\[context\]"
Prompt = Annotated[
    str,
    like(rf"(?!.*({REPLACED})).*\S.*", "text without a {{word}}, which Open WebUI would replace"),
]
Template = Annotated[
    str,
    like(
        rf"(?!.*({REPLACED})).*\{{\{{CONTEXT\}}\}}.*",
        "text that contains {{CONTEXT}}, and no other {{word}}",
    ),
]
Notes = Annotated[str, schema.one_of("auto", "review", "off")]
Role = Annotated[str, schema.one_of("both", "serve", "train")]
Night = Annotated[str, schema.one_of("swap", "beside")]
Secret = Annotated[str, like(".{16,}", "at least 16 characters")]
Image = Annotated[
    str, like(r"\S+(:|@sha256:)(?!latest\Z)[\w.\-]+", "an image with a digest, or a tag but latest")
]


class Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", regex_engine="python-re")

    PROFILE: Profile = UNSET
    PROJECT: Name
    STATE_DIR: Text
    MODEL: Name
    # as in site.env of earlier versions: an upgrade must be able to read it, and so must its return
    SERVED_MODEL: Text = UNSET
    SERVED_MODEL_REVISION: Text = UNSET
    TRAINED_MODEL: Text = UNSET
    TRAINED_MODEL_REVISION: Text = UNSET
    MODEL_FLAGS: Text = UNSET
    MAX_MODEL_LENGTH: Positive
    MAX_SEQUENCES: Positive
    KV_CACHE_BYTES: Positive
    MAX_LORA_RANK: Rank
    CHAT_ADDRESS: Address
    CHAT_PORT: Port
    HTTPS_NAMES: Names = UNSET
    HTTPS_ADDRESS: Address
    HTTPS_PORT: Port
    HTTPS_CERTIFICATE: Text = UNSET
    WEBUI_ADMIN_EMAIL: Personal[Email]
    TEAM_NAME: Personal[Text]
    EMBEDDING_MODEL: Text
    CHUNK_SIZE: Positive
    CHUNK_OVERLAP: Whole
    RAG_TOP_K: Positive
    RAG_TEMPLATE: Template
    TITLE_GENERATION: Switch
    MEMBER_CONTROLS: Switch
    SYSTEM_PROMPT: Personal[Prompt]
    MAX_ANSWER_TOKENS: Positive
    TEMPERATURE: Number
    NOTES: Notes
    RECIPE: Name
    ROLE: Role
    NIGHT: Night
    DAY_AT: Time
    PHONE_REGION: Country
    WEEKEND_DAY_AT: Time
    NIGHT_AT: Time
    NIGHT_DAYS: Days
    BACKUP_AT: Time
    BACKUP_DIR: Text
    BACKUP_KEEP: Positive
    RESTIC_REPOSITORY: Hidden[Text] = UNSET
    RESTIC_PASSWORD_FILE: Text = UNSET
    BACKUP_OLDEST_HOURS: Positive
    NIGHT_OLDEST_HOURS: Positive
    NOTIFY_PING_URL: Hidden[Url] = UNSET
    NOTIFY_WEBHOOK: Hidden[Url] = UNSET
    NOTIFY_EMAIL: Personal[Email] = UNSET
    SMTP_SERVER: Server = UNSET
    SMTP_USER: Personal[Text] = UNSET
    SMTP_PASSWORD: Hidden[Text] = UNSET
    JUDGING_SECONDS: Positive
    DAY_FREE_BYTES: Positive = UNSET
    NIGHT_FREE_BYTES: Positive = UNSET
    TRAINING_MEMORY_BYTES: Positive
    MEMORY_RESERVE_BYTES: Positive
    DISK_FREE_BYTES: Positive
    DAY_DEADLINE_SECONDS: Positive
    EXTRA_CA: Text = UNSET
    WHEELHOUSE: Text = UNSET
    HF_ENDPOINT: Text = UNSET
    HF_TOKEN: Hidden[Text] = UNSET
    VLLM_IMAGE: Image
    OPEN_WEBUI_IMAGE: Image
    DOOR_IMAGE: Image
    NIGHT_DESK_IMAGE: Image
    TRAINER_IMAGE: Image
    NIGHT_BASE_IMAGE: Image
    CUDA_13_0_BASE_IMAGE: Image
    REHEARSAL_ROOT_IMAGE: Image
    REHEARSAL_BASE_IMAGE: Image
    REHEARSAL_TORCH_IMAGE: Image
    REHEARSAL_VLLM_IMAGE: Image
    REHEARSAL_OPEN_WEBUI_IMAGE: Image
    REHEARSAL_TRAINER_IMAGE: Image
    REHEARSAL_MODEL_IMAGE: Image
    REHEARSAL_TALKING_MODEL_IMAGE: Image
    MODEL_API_KEY: Generated[Secret] = UNSET
    WEBUI_SECRET_KEY: Generated[Secret] = UNSET
    WEBUI_ADMIN_PASSWORD: Generated[Secret] = UNSET


def marked(mark: str) -> tuple[str, ...]:
    return tuple(key for key, field in Keys.model_fields.items() if mark in field.metadata)


SECRETS, HIDDEN, PERSONAL = marked("generated"), marked("hidden"), marked("personal")
IMAGES = ("VLLM_IMAGE", "OPEN_WEBUI_IMAGE", "DOOR_IMAGE", "NIGHT_DESK_IMAGE", "TRAINER_IMAGE")
STAND_INS = {"DOOR_IMAGE": "BASE_IMAGE", "NIGHT_DESK_IMAGE": "BASE_IMAGE"}
# a key, and the one that it needs
NEEDS = {"NOTIFY_EMAIL": "SMTP_SERVER", "SMTP_PASSWORD": "SMTP_USER"}  # pragma: allowlist secret
# an old key, and what replaces it
RENAMED: dict[str, str] = {}
# an old key that is still read, and what it overrides in the model's file
OF_THE_MODEL = {
    "SERVED_MODEL": "served_model",
    "SERVED_MODEL_REVISION": "served_revision",
    "TRAINED_MODEL": "trained_model",
    "TRAINED_MODEL_REVISION": "trained_revision",
    "MODEL_FLAGS": "reasoning_parser and tool_call_parser",
}
