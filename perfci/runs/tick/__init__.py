"""What a controller does every minute: reservations begin and end, nodes are prepared, nights start."""
