"""Process-level tools that frontend and worker share: batch pacing, GC tuning, resource limits, task cancellation."""
