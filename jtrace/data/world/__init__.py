"""A small invented world with known ground truth: text to pre-train on, statements to probe, questions to ask."""
