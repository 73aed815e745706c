#!/bin/sh
# sbatch slurm.sh
# An array of eight tasks on a shared file system. It may start at 0 or 1; it must have no gaps.
#SBATCH --job-name=vlft-rasterize
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=9G
#SBATCH --time=04:00:00

cd /data
vlft rasterize scans --out pages --shard auto --jobs 4 || [ $? -eq 1 ]
