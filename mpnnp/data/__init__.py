"""Structures in: formats, the data set and its store, inspection."""
