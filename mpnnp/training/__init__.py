"""Labels, schedules, observations, the loop, and what survives a run."""
