"""What every process of ours does to itself: pacing, garbage collection, limits, tasks."""
