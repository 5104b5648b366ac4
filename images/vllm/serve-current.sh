#!/bin/sh
# Starts vLLM with the model or adapter that serves, decided by files only, so that any restart
# serves the same:
#   an evaluation that names a release with a checkpoint: that checkpoint, without LoRA
#   serve-merged and a checkpoint in the current release, and no evaluation running: the checkpoint, without LoRA
#   an adapter in the current release: the base model, with it loaded, unless it was trained for its checkpoint only
#   no current release: the base model
# The link is resolved here: vLLM tells adapters apart by their path, and every release has its own.
set -eu
current=$(readlink -f /adapters/current || :)
# flags are unquoted: each variable holds several
merged=
if [ -e /adapters/judging ]; then
  merged=/adapters/$(cat /adapters/judging)
elif [ -e /adapters/current/serve-merged ]; then
  merged=$current
fi
if [ -n "$merged" ] && [ -e "$merged/checkpoint/config.json" ]; then
  # replaced, because vLLM takes the first of two --model
  for flag; do
    shift
    case $flag in --model=*) flag=--model=$merged/checkpoint ;; esac
    set -- "$@" "$flag"
  done
  # both names answer, so that Open WebUI needs no change
  set -- "$@" $MODEL_FLAGS $MACHINE_FLAGS --served-model-name team-base team-adapter
else
  set -- "$@" $MODEL_FLAGS $MACHINE_FLAGS $ADAPTER_KERNEL_FLAGS $ADAPTER_FLAGS
  if grep -qs '"trained_through_quantiser": true' /adapters/current/adapter_config.json; then
    set -- "$@" --served-model-name team-base team-adapter
  elif [ -e /adapters/current/adapter_config.json ]; then
    set -- "$@" --lora-modules "team-adapter=$current"
  fi
fi
export PYTHONPATH="/serve${PYTHONPATH:+:$PYTHONPATH}"   # where --middleware is found
exec vllm serve "$@"
