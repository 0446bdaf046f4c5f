"""Compiled loops on plain arrays; they know nothing of what is above them."""
