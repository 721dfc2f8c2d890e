#!/bin/bash
# Two machines of 8 GPUs under SLURM: one torchrun on each, which starts 8 processes.
#
# Command    sbatch examples/accelerate/slurm.sh examples/recipes/v2/pretrain_hybrid_giant.yaml
# Run here   NOT run under SLURM; its torchrun line was, see two_nodes.yaml.

#SBATCH --job-name=videomae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 8 --rdzv_backend c10d \
    --rdzv_endpoint "$first:29500" --rdzv_id "$SLURM_JOB_ID" train.py pretrain "$@"
