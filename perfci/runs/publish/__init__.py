"""Who hears of a run and what people see: alerts, mail, pages, Grafana."""
