"""Statements, their sources, splits and groups; tokens; and text for pre-training."""
