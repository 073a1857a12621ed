"""Upper bounds of the buckets of histograms, in seconds or in rows. A last bucket has what is longer."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's for the durations of generative models: dashboards of other products have them, too."""

FINE_SECONDS = (0.000625, 0.00125, 0.0025, 0.005, *SECONDS)
"""The same, continued downwards, for what takes milliseconds."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
