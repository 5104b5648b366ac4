#!/bin/sh
# Starts vLLM with the adapter that serves, if there is one, so that any restart of the container serves the same again.
# The link is resolved here: vLLM tells adapters apart by their path, and every release has its own.
set -eu
# unquoted: each holds several flags
set -- "$@" $MACHINE_FLAGS $ADAPTER_KERNEL_FLAGS $ADAPTER_FLAGS
if [ -e /adapters/current/adapter_config.json ]; then
  set -- "$@" --lora-modules "team-adapter=$(readlink -f /adapters/current)"
fi
exec vllm serve "$@"
