"""Who must know: the life of an alert, mail, outbox."""
