"""Files to deploy health with: monitoring, alerts, dashboards and probes, made of the settings."""
