"""Active learning: simulate, stop where the potential does not know, label the most telling frames, go on."""
