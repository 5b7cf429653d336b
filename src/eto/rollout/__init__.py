"""Many episodes at once: slots, deadlines, retries."""
