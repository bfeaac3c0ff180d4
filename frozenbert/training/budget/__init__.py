"""Spend a budget of time on better answers: steps that are kept if they help out of fold."""
