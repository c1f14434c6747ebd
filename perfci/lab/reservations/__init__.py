"""Reservations for times to come: the calendar, the queue, and what happens when a node breaks."""
