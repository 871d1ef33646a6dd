#!/bin/bash
# A training run under Slurm, on two machines with four GPUs each:
#
#   sbatch deploy/slurm.sh [OPTIONS OF innerloop train]
#
# Two minutes before the time is up a checkpoint is written, and the job goes back into the queue
# and goes on from there.  So it does when another job takes the machines (a partition with
# PreemptMode=REQUEUE and a GraceTime).
#SBATCH --job-name=innerloop
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

export RUN="${RUN:-runs/slurm}"
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export TORCHRUN="--nnodes=$SLURM_JOB_NUM_NODES --nproc-per-node=${GPUS:-4} \
  --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID --rdzv-endpoint=$first:29500"

# The signal comes to this script, which hands it to every process and waits for the checkpoint.
trap 'stopped=1; scancel --signal=TERM "$SLURM_JOB_ID"' TERM
if [ $# = 0 ]; then
  set -- --preset finn2017-5way-1shot --data omniglot --device cuda
fi
srun --kill-on-bad-exit=1 deploy/train.sh "$@" &
step=$! status=0
wait "$step" || status=$?
if [ -n "${stopped:-}" ]; then
  wait "$step" || status=$?
  [ -e "$RUN/results.json" ] || scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
