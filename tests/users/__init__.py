"""Domains as kinds of users have them, with faults planted, and what check has to find of them."""
