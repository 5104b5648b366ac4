"""The command-line options of each verb of python -m bench."""

from __future__ import annotations

from pathlib import Path

import click

from bench import chats, training_plan
from glue.cli.framework import option
from glue.core.settings import REPOSITORY

DIRECT = (
    option("--users", default="1,4", help="Numbers of simultaneous users."),
    option("--prompts", "count", default=48, help="Questions at each level."),
    option("--answer-tokens", default=64),
)
REPORT = (
    option(
        "--compare",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of another run to compare with.",
    ),
)
SCALE = (
    option(
        "--source",
        type=click.Path(exists=True, path_type=Path),
        default=REPOSITORY / "docs" / "measurements" / "rag-paced.json",
        show_default=False,
        help="A result file. Default: docs/measurements/rag-paced.json",
    ),
    option(
        "--out",
        type=click.Path(path_type=Path),
        default=REPOSITORY / "docs" / "measurements" / "scale.md",
        show_default=False,
        help="The page to write. Default: docs/measurements/scale.md",
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
    option("--users", default="1,2,4,8", help="Numbers of simultaneous users."),
    option("--rounds", default=3, help="How many questions each user asks at each level."),
    option(
        "--documents",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A folder of your own PDFs.",
    ),
    option(
        "--questions",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A TOML file of questions about your own PDFs.",
    ),
    option(
        "--books",
        default=30,
        help="How many documents to generate if you give none.",
    ),
    option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting of Open WebUI to try on our chat.",
    ),
    option(
        "--browser",
        is_flag=True,
        help="Ask as the chat's own page does. First turns only.",
    ),
    option("--quick", is_flag=True, help="Skip the labelled questions."),
    option(
        "--name",
        help="Name of the file in state/bench. Default: rag-paced, rag-vllm, rag-browser-...",
    ),
)


TRAINING = (
    option(
        "--plan",
        "plan_file",
        type=click.Path(path_type=Path),
        help="A JSON file of settings instead of the options below.",
    ),
    option("--recipe", default="team", help="The recipe to train."),
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
        help="Tokens a step, without padding.",
    ),
    option(
        "--packing/--no-packing",
        default=True,
        help="Put several samples into a row. Needs a GPU.",
    ),
    option("--steps", default=100, help="Measured steps, after a warm-up of three."),
    option(
        "--layers",
        default=training_plan.LAYERS,
        help="Layers of the real architecture, with random weights.",
    ),
    option("--model", default="", show_default=False, help="Use this model's weights instead."),
    option(
        "--train-file",
        default="",
        show_default=False,
        help="With --model: the file of rows to train on, as a path in the container.",
    ),
    option(
        "--anew",
        is_flag=True,
        help="Repeat what an earlier run of the same plan has measured.",
    ),
    option(
        "--result",
        "result_file",
        type=click.Path(path_type=Path),
        help="Measure nothing, show this result of training.bench.run.",
    ),
    option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for the table and pictures. Default: state/bench.",
    ),
    option("--name", "stem", default="training", help="First part of the file names."),
)


ALL = (option("--rounds", default=3, help="How many questions each user asks at each level."),)
