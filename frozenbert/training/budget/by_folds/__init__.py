"""Steps of a budget that train one classifier for each fold."""
