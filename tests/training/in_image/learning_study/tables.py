"""From the study's rows to what is reported of each kind. Pure, but for read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.training.in_image.learning_study.kinds import KINDS

Row = dict[str, Any]
MOST_SAMPLES = 40


def read(paths: Iterable[Path]) -> list[Row]:
    lines = [one for path in paths if path.exists() for one in path.read_text("utf-8").splitlines()]
    return [json.loads(one) for one in lines if one.strip()]


def table(rows: Sequence[Row]) -> Row:
    """Of tries each try's kinds; else nights: each without its samples, of which one night of each
    kind is kept."""
    if any(row["try"] for row in rows):
        return about(rows) | {"tries": list(tried(rows))}
    names = [name for name in KINDS if any(row["kind"] == name for row in rows)]
    ordered = sorted(rows, key=lambda row: (names.index(row["kind"]), row["seed"]))
    once = ("samples", "date", "machine", "versions", "company", "try", "setting", "recipe")
    bare = [{key: value for key, value in row.items() if key not in once} for row in ordered]
    first = {row["kind"]: row["samples"][:MOST_SAMPLES] for row in reversed(ordered)}
    return about(rows) | {
        "kinds": [of_kind(name, ordered) for name in names],
        "forgetting": forgetting(bare),
        "nights": bare,
        "samples": {name: first[name] for name in names},
    }


def of_kind(name: str, rows: Sequence[Row]) -> Row:
    """With what it was trained by, which differs between the kinds of a merged table."""
    own = [row for row in rows if row["kind"] == name]
    return summary(name, own) | {key: own[0][key] for key in ("setting", "recipe")}


def merged(old: Row, new: Row) -> Row:
    """The new table, with what only the old one has: kinds of nights, or tries. Each says when it
    was played if that was not the table's own date."""
    dated = [{"date": old["date"]} | row for row in (old.get("kinds") or old["tries"])]
    if "tries" in new:
        fresh = {(row["try"], row["kind"]) for row in new["tries"]}
        kept = [row for row in dated if (row["try"], row["kind"]) not in fresh]
        return new | {"tries": kept + new["tries"]}
    fresh = {row["kind"] for row in new["kinds"]}
    kinds = [row for row in dated if row["kind"] not in fresh] + new["kinds"]
    nights = [row for row in old["nights"] if row["kind"] not in fresh] + new["nights"]
    order = list(KINDS)
    return new | {
        "kinds": sorted(kinds, key=lambda row: order.index(row["kind"])),
        "forgetting": {k: v for k, v in old["forgetting"].items() if k not in fresh}
        | new["forgetting"],
        "nights": sorted(nights, key=lambda row: order.index(row["kind"])),
        "samples": old["samples"] | new["samples"],
    }


def about(rows: Sequence[Row]) -> Row:
    return {
        "date": max(row["date"] for row in rows),
        "machine": sorted({row["machine"] for row in rows}),
        "versions": rows[-1]["versions"],
        "company": sorted({row["company"] for row in rows}),
    }


def tried(rows: Sequence[Row]) -> Iterator[Row]:
    for name in dict.fromkeys(row["try"] for row in rows):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            some = [row for row in rows if (row["try"], row["kind"]) == (name, kind)]
            if some:
                yield {"try": name} | summary(kind, some)


def summary(name: str, rows: Sequence[Row]) -> Row:
    """Shares of what was asked, the mean of the seeds, after the last night; of a kind with several
    nights what serves then. nights and promoted: how many of all seeds. without_a_night: what the
    data set refuses before it trains."""
    nights = [one for row in rows for one in row["nights"]]
    return {
        "kind": name,
        "seeds": len(rows),
        "nights": len(nights),
        "without_a_night": sum("refused" in one for one in nights),
        "promoted": sum(one["promoted"] for one in nights),
        "wrong_verdicts": sum(wrong_verdict(row) for row in rows),
        "right_before": mean(rows, right, "_before"),
        "right_after": mean(rows, right, ""),
        "changed_before": mean(rows, share, "changed_right_before", "changed_asked"),
        "changed_follows": mean(rows, share, "changed_right", "changed_asked"),
        "memorised": mean(rows, share, "memorised", "changed_asked"),
        "absent": mean(rows, share, "absent_right", "absent_asked"),
        "wrongly_absent": mean(rows, wrongly_absent),
        "notes_before": mean(rows, share, "note_right_before", "note_asked"),
        "notes": mean(rows, share, "note_right", "note_asked"),
        "reading_before": mean(rows, share, "reading_right_before", "reading_asked"),
        "reading": mean(rows, share, "reading_right", "reading_asked"),
        "general_before": mean(rows, share, "general_right_before", "general_asked"),
        "general_right": mean(rows, share, "general_right", "general_asked"),
        "first_night_right": first_night(rows) if len(nights) > len(rows) else None,
        "forgetting_passed": sum(bool(one.get("forgetting", {}).get("passes")) for one in nights),
    }


def mean(rows: Sequence[Row], figure: Any, *names: str) -> float | None:
    found = [one for row in rows if (one := figure(row["asked"], *names)) is not None]
    return round(fmean(found), 3) if found else None


def share(asked: Row, name: str, of: str) -> float | None:
    return asked[name] / asked[of] if asked.get(of) else None


def right(asked: Row, when: str) -> float | None:
    """Where every document changed: what follows it."""
    kind = "phrased" if asked.get("phrased_asked") else "changed"
    return share(asked, f"{kind}_right{when}", f"{kind}_asked")


def wrongly_absent(asked: Row) -> float | None:
    there = sum(asked.get(f"{kind}_asked", 0) for kind in ("phrased", "changed", "note"))
    return asked["wrongly_absent"] / there if there else None


def first_night(rows: Sequence[Row]) -> float | None:
    """Of what the first night taught, after the last."""
    return mean([{"asked": row["first_night"]} for row in rows], right, "")


def wrong_verdict(row: Row) -> bool:
    """The first night decides: what later ones add to a model that reads well already may be too
    little to see, and then what serves stays."""
    return bool(row["nights"][0]["promoted"] != row["teaches"])


def forgetting(rows: Sequence[Row]) -> Row:
    """The check on the base model's own answers, of nights that change nothing and of all others:
    how many pass, and how often by their rows' spread a night passes that changes nothing, or is
    refused that loses the margin."""
    found: Row = {}
    for name in dict.fromkeys(row["kind"] for row in rows):
        some = [
            one["forgetting"]
            for row in rows
            if row["kind"] == name
            for one in row["nights"]
            if one.get("forgetting")
        ]
        if some:
            found[name] = {"nights": len(some), "passed": sum(one["passes"] for one in some)} | {
                key: round(fmean(one[key] for one in some), 3)
                for key in ("mean", "sd", "rows", "unchanged_passes", "loss_refused")
                if all(key in one for one in some)
            }
    return found


# ---------------------------------------------------------------------- for whoever chooses


def tries(rows: Sequence[Row]) -> list[str]:
    """A line for each try and kind."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["try"]), []).append(row)
    return [f"{name} | {brief(some)} | {kind}" for (kind, name), some in sorted(groups.items())]


def brief(rows: Sequence[Row]) -> str:
    found = summary("", rows)
    names = (
        "right_after",
        "changed_follows",
        "absent",
        "wrongly_absent",
        "notes",
        "reading",
        "general_right",
        "memorised",
    )
    figures = " ".join(f"{name} {found[name]}" for name in names)
    return f"{figures} promoted {found['promoted']}/{found['nights']} {seconds(rows):.0f} s"


# what a night is to reach on questions in other people's words
AT_LEAST = {"right_after": 0.9, "changed_follows": 0.8, "absent": 0.8, "notes": 0.95}
AT_MOST = {"wrongly_absent": 0.1}
NEARLY = 0.75  # the last nights of a sweep may not have been finished


def chosen(rows: Sequence[Row], kinds: Sequence[str]) -> str:
    """The try that misses the targets least, the mean of these kinds; of tries that were played
    nearly as often as any. Of equal ones the quicker."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["kind"] in kinds:
            groups.setdefault(row["try"], []).append(row)
    most = max(map(len, groups.values()), default=0)
    whole = {name: some for name, some in groups.items() if len(some) >= NEARLY * most}
    return min(whole, key=lambda name: (missed(whole[name]), seconds(whole[name])), default="")


def missed(rows: Sequence[Row]) -> float:
    """Shares by which the targets are missed, and the share of reading that was lost."""
    found = []
    for kind in {row["kind"] for row in rows}:
        one = summary(kind, [row for row in rows if row["kind"] == kind])
        short = [most - one[name] for name, most in AT_LEAST.items()]
        short += [one[name] - least for name, least in AT_MOST.items()]
        short.append(one["reading_before"] - one["reading"])
        found.append(sum(max(0.0, size) for size in short))
    return round(fmean(found), 6)


def seconds(rows: Sequence[Row]) -> float:
    return fmean(row["seconds"] for row in rows)


def line(row: Row) -> str:
    verdicts = [one.get("refused") or one["faults"] or "promoted" for one in row["nights"]]
    return f"{row['kind']} | {row['try']} | seed {row['seed']} | {brief([row])} | {verdicts}"
