"""Data of other trainers: conversations and preference items, each field honoured or refused."""
