"""What people run beside the nights."""
