"""Reports: metrics, plots, the report page, the comparison of models."""
