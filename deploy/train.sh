#!/bin/sh
# Begins the run in $RUN, or goes on with it: the same command after every interruption.
#
#   RUN=/runs/first train.sh --preset finn2017-5way-1shot --data omniglot
#
# SIGTERM writes a checkpoint and ends the run; the next call goes on exactly.  $TORCHRUN has
# torchrun's options; without it one process for each GPU, or one in all, works on this machine.
# Several machines need $RUN in a folder that all of them see.
set -eu
if [ -e "$RUN/config.yaml" ]; then
  set -- --resume "$RUN"
else
  set -- "$@" --out "$RUN"
fi
# shellcheck disable=SC2086 # options are several words
exec torchrun ${TORCHRUN---standalone --nproc-per-node auto} -m innerloop train "$@"
