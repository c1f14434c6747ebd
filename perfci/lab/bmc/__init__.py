"""Power, boot order and consoles of machines, through their BMCs."""
