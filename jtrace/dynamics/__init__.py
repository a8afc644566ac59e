"""Trajectories over the checkpoints of one pre-training run: tables, angles, turns."""
