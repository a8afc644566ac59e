"""The Language Model Evaluation Harness (lm-eval 0.4): its requests answered by jtrace, its tasks as jtrace's.

Needs the extra `lm-eval`, and is imported where a task of lm-eval is asked for.
"""
