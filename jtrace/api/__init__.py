"""The Python interface, which `import jtrace` offers: models, statements, activations, probes, vectors and runs."""
