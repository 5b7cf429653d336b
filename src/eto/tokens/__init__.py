"""Conversations as token ids and masks, and trajectories as prefix trees."""
