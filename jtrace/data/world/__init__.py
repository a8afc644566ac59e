"""A small invented world with known ground truth: text for pre-training, statements to probe, questions to ask."""
