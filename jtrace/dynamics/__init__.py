"""Trajectories over the checkpoints of one pre-training: tables, angles, turns."""
