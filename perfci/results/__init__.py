"""What was measured: Rally, counters, canaries; the series model; the stores."""
