"""Which requests a peer's key may make, and how two Sparks are compared."""

import re
from pathlib import Path

import pytest

from glue.core.errors import PreconditionFailed
from glue.operations import versions
from glue.peers import answers, facts, link

HASH = "a" * 64
NIGHT = "20261126T190000Z"


@pytest.mark.parametrize(
    "command",
    [
        "status",
        f"receive {NIGHT} train.jsonl {HASH}",
        f"receive {NIGHT}-a1b2c3d4 preferences.jsonl {HASH}",
        f"fetch {NIGHT} result.json",
        f"train {NIGHT} team 1764183600",
        f"stop {NIGHT}-a1b2c3d4",
    ],
)
def test_a_peer_may_ask_for_five_things(command: str) -> None:
    act, words = answers.parse(command)
    assert " ".join((act.__name__, *words)) == command


@pytest.mark.parametrize(
    "command",
    [
        *("", " ", "status ", " status", "status\n", "STATUS", "status; id", "status && id"),
        *("status|id", "$(id)", "`id`", "sh", "sh ", "bash -i", "id", "glue-peer status; id"),
        *("train", f"train {NIGHT}", "train .. x 1764183600", "train x -h 1764183600"),
        *("train a/b c 1764183600", "train a\nb c 1764183600", "train a b 1764183600.5"),
        *("train a b;id 1764183600", f"train a {65 * 'a'} 1764183600", "train a é 1764183600"),
        *(f"fetch {NIGHT} secrets.env", f"fetch {NIGHT} ../../secrets.env", "fetch .. result.json"),
        *(
            f"fetch {NIGHT} train.jsonl",
            f"fetch {NIGHT} result.json/",
            f"fetch {NIGHT} result_json",
        ),
        f"receive ../nights train.jsonl {HASH}",
        f"receive {NIGHT} authorized_keys {HASH}",
        f"receive {NIGHT} ../train.jsonl {HASH}",
        f"receive {NIGHT} train.jsonl {HASH}0",
        f"receive {NIGHT} train.jsonl {HASH.upper()}",
        f"receive {NIGHT} train.jsonl",
        *("stop", "stop current", f"stop {NIGHT} {NIGHT}", "stop ..", f"load {NIGHT} {HASH}"),
        *(f"receive {NIGHT} manifest.json {HASH}", f"train {NIGHT} .. 1764183600"),
        *("scp -t /tmp", "internal-sftp", "/usr/lib/openssh/sftp-server", "rsync --server . /"),
    ],
)
def test_a_peer_may_ask_for_nothing_else(command: str) -> None:
    with pytest.raises(PreconditionFailed, match="this key may not do that"):
        answers.parse(command)


def test_differences_are_named_and_what_both_lack_is_one() -> None:
    mine = {"version": "abc", "image haproxy:3": "sha256:1", "image vllm": "", "model nano": "f00"}
    assert not facts.differences({"version": "abc"}, {"version": "abc"})
    theirs = {"version": "abd", "image haproxy:3": "sha256:1", "image vllm": "", "image old": "x"}
    assert facts.differences(mine, theirs) == [
        "version: here abc, there abd",
        "image vllm: here missing, there missing",
        "model nano: here f00, there missing",
        "image old: here missing, there x",
    ]


def test_a_version_is_the_commit_and_what_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """make pin changes a file that git tracks: both may have that change."""
    said = {"rev-parse": "abc\n", "diff": ""}
    monkeypatch.setattr(versions, "git", lambda verb, *_: said[verb])
    assert facts.version() == "abc"
    said["diff"] = "+pinned"
    one = facts.version()
    said["diff"] = "+pinned to another"
    assert one.startswith("abc with changes ") and facts.version() != one


@pytest.mark.parametrize(
    ("theirs", "fault"),
    [
        (100.0, ""),
        (101.5, ""),
        (98.1, ""),
        (104.9, ""),
        (97.0, "clock: 3 s behind there"),
        (107.0, "clock: 4 s ahead there"),
    ],
)
def test_clocks_may_differ_by_two_seconds(theirs: float, fault: str) -> None:
    """The answer was asked for at 100 and arrived at 103."""
    assert facts.clock_fault(100.0, theirs, 103.0) == fault


@pytest.mark.parametrize("host", ["spark-b", "team@10.0.0.6:2222", "[fe80::1]:22", "a.example.org"])
def test_a_host_is_a_name_with_a_user_and_a_port(host: str) -> None:
    assert re.fullmatch(link.HOST, host)


@pytest.mark.parametrize(
    "host", ["", "-oProxyCommand=id", "a b", "a;id", "../x", "a/b", "@a", "a:", "ssh://a", "-l@b"]
)
def test_a_host_is_nothing_that_ssh_or_a_path_reads_otherwise(host: str) -> None:
    assert not re.fullmatch(link.HOST, host)


def test_a_path_with_spaces_and_quotes_stays_one_command() -> None:
    line = link.authorized("KEY", Path('/srv/the "team"/glue-peer'))
    assert line == """restrict,command="'/srv/the \\"team\\"/glue-peer'" KEY dual-use-spark-peer"""
