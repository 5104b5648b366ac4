#!/bin/sh
# Starts vLLM with the model or adapter that serves, decided by files only, so that any restart
# serves the same:
#   serve-merged and a checkpoint in the current release, and no evaluation running: the checkpoint, without LoRA
#   an adapter in the current release: the base model, with it loaded
#   no current release: the base model
# The link is resolved here: vLLM tells adapters apart by their path, and every release has its own.
set -eu
current=$(readlink -f /adapters/current || :)
# flags are unquoted: each variable holds several
if [ -e /adapters/current/serve-merged ] && [ -e /adapters/current/checkpoint/config.json ] && [ ! -e /adapters/judging ]; then
  # replaced, because vLLM takes the first of two --model
  for flag; do
    shift
    case $flag in --model=*) flag=--model=$current/checkpoint ;; esac
    set -- "$@" "$flag"
  done
  # both names answer, so that Open WebUI needs no change
  set -- "$@" $MODEL_FLAGS $MACHINE_FLAGS --served-model-name team-base team-adapter
else
  set -- "$@" $MODEL_FLAGS $MACHINE_FLAGS $ADAPTER_KERNEL_FLAGS $ADAPTER_FLAGS
  if [ -e /adapters/current/adapter_config.json ]; then
    set -- "$@" --lora-modules "team-adapter=$current"
  fi
fi
export PYTHONPATH="/serve${PYTHONPATH:+:$PYTHONPATH}"   # where --middleware is found
exec vllm serve "$@"
