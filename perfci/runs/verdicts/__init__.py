"""What a run means: stores, judgements, suspects, re-runs."""
