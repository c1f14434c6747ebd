"""How nodes are touched: playbooks, the embedded InfluxDB, the doctor."""
