#!/bin/bash
# A training run under Slurm, on two machines with four GPUs each: sbatch deploy/slurm.sh
#
# Two minutes before the time is up, and when another job takes the machines (a partition with
# PreemptMode=REQUEUE), every process gets SIGTERM: a checkpoint is written, and the job goes back
# into the queue and goes on from there.
#SBATCH --job-name=innerloop
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

export RUN="${RUN:-runs/slurm}"
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export TORCHRUN="--nnodes=$SLURM_JOB_NUM_NODES --nproc-per-node=${GPUS:-4} \
  --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID --rdzv-endpoint=$first:29500"

srun --kill-on-bad-exit=1 deploy/train.sh --preset finn2017-5way-1shot --data omniglot \
  "$@" || status=$?
# A run that is not finished, though nothing went wrong, was told to stop.
if [ ! -e "$RUN/results.json" ] && [ -e "$RUN/config.yaml" ] && [ -z "${STAY:-}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "${status:-0}"
