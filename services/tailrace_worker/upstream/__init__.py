"""What comes from a model's server: its bytes, its chunks, and what they mean in the log's vocabulary."""
