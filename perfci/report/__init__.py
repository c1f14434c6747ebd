"""What people look at: trend pages, Grafana."""
