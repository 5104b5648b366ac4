"""The command-line options of each verb of python -m bench."""

from __future__ import annotations

from pathlib import Path

import click

from bench import chats, training_plan
from glue.cli.framework import option
from glue.core.settings import REPOSITORY

DIRECT = (
    option("--users", default="1,4", help="Levels."),
    option("--prompts", "count", default=48, help="Questions at each level."),
    option("--answer-tokens", default=64),
)
REPORT = (
    option(
        "--compare",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Another run's folder, put beside it.",
    ),
)
SCALE = (
    option(
        "--source",
        type=click.Path(exists=True, path_type=Path),
        default=REPOSITORY / "docs" / "measurements" / "rag-paced.json",
        show_default=False,
        help="A result. Default: docs/measurements/rag-paced.json",
    ),
    option(
        "--out",
        type=click.Path(path_type=Path),
        default=REPOSITORY / "docs" / "measurements" / "scale.md",
        show_default=False,
        help="The page that is written. Default: docs/measurements/scale.md",
    ),
)
RAG = (
    option(
        "--model",
        type=click.Choice([chats.PACED, chats.SERVED]),
        default=chats.PACED,
    ),
    option(
        "--only", type=click.Choice([chats.STOCK, chats.OURS]), help="Measure one chat, not both."
    ),
    option("--users", default="1,2,4,8", help="Levels."),
    option("--rounds", default=3, help="How often everybody asks at each level."),
    option(
        "--documents",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Your own PDFs.",
    ),
    option(
        "--questions",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="About your own PDFs, as TOML.",
    ),
    option(
        "--books",
        default=30,
        help="How many documents are generated, where you give none.",
    ),
    option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting of Open WebUI to try on ours.",
    ),
    option(
        "--browser", is_flag=True, help="As the chat's own page asks, over its socket; first turns."
    ),
    option("--quick", is_flag=True, help="Without the labelled questions."),
    option(
        "--name",
        help="Of the file in state/bench; rag-paced, rag-vllm, rag-browser-... if not given.",
    ),
)


TRAINING = (
    option(
        "--plan",
        "plan_file",
        type=click.Path(path_type=Path),
        help="A JSON file of settings instead of the options below.",
    ),
    option("--recipe", default="team", help="What is trained."),
    option(
        "--engine",
        "engines",
        multiple=True,
        type=click.Choice(training_plan.ENGINES),
        default=["grouped"],
    ),
    option(
        "--checkpointing",
        multiple=True,
        type=click.Choice(training_plan.CHECKPOINTING),
        default=["selective"],
    ),
    option(
        "--tokens",
        multiple=True,
        type=int,
        default=[1600],
        help="Real tokens a step.",
    ),
    option(
        "--packing/--no-packing",
        default=True,
        help="Several samples a row, which needs a GPU.",
    ),
    option("--steps", default=100, help="Measured steps, after a warm-up of three."),
    option(
        "--layers",
        default=training_plan.LAYERS,
        help="Of the real architecture, with random weights.",
    ),
    option("--model", default="", show_default=False, help="A model's own weights instead."),
    option(
        "--train-file",
        default="",
        show_default=False,
        help="With --model: rows to train on, as the container sees the file.",
    ),
    option(
        "--anew",
        is_flag=True,
        help="Measure again what an earlier run of the same plan has measured.",
    ),
    option(
        "--result",
        "result_file",
        type=click.Path(path_type=Path),
        help="Measure nothing; show what training.bench.run wrote.",
    ),
    option(
        "--out",
        type=click.Path(path_type=Path),
        help="Where table and pictures go; default state/bench.",
    ),
    option("--name", "stem", default="training", help="How the files there begin."),
)


ALL = (option("--rounds", default=3, help="How often everybody asks at each level."),)
